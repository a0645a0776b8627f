"""HTTP/1.1 as uvicorn speaks it, except that offers to change the protocol are ignored."""

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """Answers a request with `Upgrade: h2c`, or with any other protocol but WebSocket, as if the
    header were not there, which RFC 9110 allows.

    httptools takes such a request to end with its headers and hands the body back unparsed. uvicorn
    would run the application without a body and then take the body for the next request. Here, the
    headers are first parsed again without the offer, and the body follows them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.is_offer = False

    def data_received(self, data: bytes | memoryview) -> None:
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._parse(data)
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def _parse(self, data: bytes | memoryview) -> memoryview:
        """Parse requests up to the first that offers another protocol. Returns what follows its
        headers. Raises HttpParserError."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if self.is_offer:
                self._parse_headers_again()
                return memoryview(data)[stop.args[0] :]
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        return memoryview(b"")

    def _parse_headers_again(self) -> None:
        line = b"%s %s HTTP/%s" % (
            *(self.parser.get_method(), self.url),
            self.parser.get_http_version().encode(),
        )
        fields = (b"%s: %s" % field for field in self.headers if field[0] != b"upgrade")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self.parser.feed_data(b"\r\n".join([line, *fields, b"", b""]))

    # The parser's callbacks

    def on_headers_complete(self) -> None:
        self.is_offer = (
            self.parser.should_upgrade()
            and self.parser.get_method() != b"CONNECT"
            and not self._should_upgrade()
        )
        if not self.is_offer:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.is_offer:
            super().on_message_complete()
