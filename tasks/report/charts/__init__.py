"""One module per chart; each function takes frames and returns a plotly figure in the light theme's colours."""
