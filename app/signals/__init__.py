"""Live figures: how often each story and category is clicked, from the events so far.

This package is pure: it knows no web framework, no store and no engine. The service feeds it with
events; training feeds it with click logs in the order of time. So both see the same figures.
"""
