"""The documents for agents, over the Model Context Protocol: read `server.py` and `tools.py` first.

`stdio` serves one program on this machine, `rag_app.server.routes.mcp` whoever has a key.
"""
