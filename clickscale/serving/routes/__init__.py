"""Protocols of the server: HTTP routes, the OpenAPI document, Open Inference."""
