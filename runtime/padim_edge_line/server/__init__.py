"""The page, the HTTP interface and the metrics of a line, on Starlette and uvicorn."""
