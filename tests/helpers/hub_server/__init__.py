"""A Hub in this process that the real client talks to over HTTP: storage, routes, server, fixtures."""
