package cli

import _ "embed"

// Example is a function that shows VoltRun at work.
type Example struct {
	Name    string
	Runtime string
	File    string
	Code    string
}

var (
	//go:embed examples/hello.js
	helloJS string
	//go:embed examples/hello.py
	helloPython string
)

// Examples are the functions of the README, the demo and the tests.
func Examples() []Example {
	return []Example{
		{Name: "hello-node", Runtime: "nodejs", File: "hello.js", Code: helloJS},
		{Name: "hello-python", Runtime: "python", File: "hello.py", Code: helloPython},
	}
}
