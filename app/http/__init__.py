"""Everything that knows HTTP: routes, wire types, middleware."""
