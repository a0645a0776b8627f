"""Pure ASGI middleware, because Starlette's BaseHTTPMiddleware hides disconnects from handlers."""
