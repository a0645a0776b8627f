"""A simulated news site on the real service: seven days whose truth is known.

`python -m examples.site` runs it. world.py has the invented readers and stories and the truth of
their clicks, week.py lets them meet the service, figures.py and picture.py say what came of it.
"""
