"""The explorer: one HTML file that decodes models in the browser, with no server and no network."""
