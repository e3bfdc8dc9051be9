package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/voltrun/voltrun/"

// importRules say which of our own folders a folder may import, and why not others. A folder stands for everything
// below it.
var importRules = []struct {
	folder  string
	allowed []string
	reason  string
}{
	{"domain", nil, "the rules of the domain are pure: they know no store, no clock and no transport"},
	{"eventstore", []string{"domain"}, "the log stores facts and must not know who decides or who reads them"},
	{"commands", []string{"domain", "eventstore"}, "a command decides from the log alone; a read model may be behind it"},
	{"projections", []string{"domain", "eventstore"}, "a read model is a fold of the log; it decides nothing and calls nobody"},
	{"runners", []string{"domain"}, "runners report through an interface of their own, so that they can run on another host"},
	{"interfaces", []string{"commands", "projections", "domain", "frontend"}, "the edge speaks in commands and queries and never touches the log"},
	{"frontend", nil, "the dashboard is files"},
}

// outsideRules keep libraries where they belong.
var outsideRules = []struct{ library, folder, reason string }{
	{"go.uber.org/fx", "cmd", "the object graph is made in one place; everything else takes what it needs as arguments"},
	{"github.com/spf13/cobra", "cmd", "only the command has a command line"},
	{"github.com/gorilla/mux", "interfaces", "HTTP routing belongs to the edge"},
	{"github.com/golang-jwt/jwt", "interfaces", "access tokens belong to the edge"},
}

// TestFoldersImportOnlyWhatTheDesignAllows prints the reason of the rule that was broken.
func TestFoldersImportOnlyWhatTheDesignAllows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, module+"...").Output()
	require.NoError(t, err)
	packages := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		folder := strings.TrimPrefix(fields[0], module)
		packages++
		for _, imported := range fields[1:] {
			for _, broken := range brokenRules(folder, imported) {
				t.Errorf("%s imports %s, but %s", folder, imported, broken)
			}
		}
	}
	require.Greater(t, packages, 10, "go list saw the packages")
}

func brokenRules(folder, imported string) (reasons []string) {
	for _, rule := range importRules {
		ours, isOurs := strings.CutPrefix(imported, module)
		if isOurs && within(folder, rule.folder) && !within(ours, rule.folder) && !withinAny(ours, rule.allowed) && !isTestSupport(folder) {
			reasons = append(reasons, rule.reason)
		}
	}
	for _, rule := range outsideRules {
		if within(imported, rule.library) && !within(folder, rule.folder) {
			reasons = append(reasons, rule.reason)
		}
	}
	return reasons
}

// isTestSupport tells whether only tests import a package: it may put together what it tests.
func isTestSupport(folder string) bool { return strings.HasSuffix(folder, "test") }

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func withinAny(path string, folders []string) bool {
	for _, folder := range folders {
		if within(path, folder) {
			return true
		}
	}
	return false
}

func TestTheImportRulesCatchWhatTheyForbid(t *testing.T) {
	for _, forbidden := range [][2]string{
		{"domain", module + "eventstore"},
		{"commands", module + "projections"},
		{"eventstore/postgres", module + "commands"},
		{"interfaces/rest", module + "eventstore/postgres"},
		{"runners", module + "interfaces/rest"},
		{"commands", "go.uber.org/fx"},
		{"commands", "github.com/golang-jwt/jwt/v5"},
		{"cmd/voltrun", "github.com/gorilla/mux"},
	} {
		require.NotEmpty(t, brokenRules(forbidden[0], forbidden[1]), "%s importing %s", forbidden[0], forbidden[1])
	}
	require.Empty(t, brokenRules("commands", module+"eventstore"))
	require.Empty(t, brokenRules("cmd/voltrun", "go.uber.org/fx"))
	require.Empty(t, brokenRules("interfaces/rest/resttest", module+"eventstore"))
}
