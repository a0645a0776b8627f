"""Everything that deals with HTTP: routes, wire types and middleware."""
