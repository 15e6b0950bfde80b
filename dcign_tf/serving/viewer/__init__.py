"""A web page on which one picture is turned, raised and re-lit with sliders."""
