package sandbox

// NewBubblewrap returns the driver "bwrap". That it can be made does not mean that it works here.
func NewBubblewrap() (Driver, error) { return newBubblewrap() }
