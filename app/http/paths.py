"""Paths that end with an id of a site's own, which may hold slashes and line breaks."""

from starlette.convertors import Convertor, register_url_convertor


class IdConvertor(Convertor[str]):
    """Starlette's own `path` does not match line breaks."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", IdConvertor())
STORY = "/stories/{story_id:id}"
READER = "/readers/{reader_id:id}"
