"""The HTTP API for programs: machine tokens with scopes, problem+json, keys to page on, a description of itself."""
