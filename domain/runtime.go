package domain

import (
	"slices"
	"strings"
)

// Runtimes lists the runtime words that a function may name, whether or not a given host has them. A bare word stands
// for the newest version on the host.
func Runtimes() []string {
	return []string{
		"nodejs", "nodejs18", "nodejs20", "nodejs22",
		"python", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13",
	}
}

// runtime refuses a runtime that VoltRun does not know, and one that this host lacks. available lists the words
// that this host can serve.
func (c *checks) runtime(value string, available []string) {
	have := strings.Join(available, ", ")
	if !slices.Contains(Runtimes(), value) {
		c.require(false, "runtime", "runtime %q is not known. This host has: %s.", value, have)
		return
	}
	c.require(slices.Contains(available, value), "runtime", "runtime %q is not installed on this host, which has: %s.", value, have)
}

// FileExtension is the source file's ending for a runtime word, ".js" or ".py".
func FileExtension(runtime string) string {
	if strings.HasPrefix(runtime, "python") {
		return ".py"
	}
	return ".js"
}
