package adamd

// TestURL is that of the real server, for the examples; empty without one.
var TestURL string
