"""The explorer: one HTML file that decodes models of the lab in the browser, with no server and no network."""
