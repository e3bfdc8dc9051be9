package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheTourOfTheReadmeAnswersAsItSays(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, block, "README.md has no tour")

	s := newServer(t)
	s.start(t)
	tour := strings.ReplaceAll(string(block[1]), "http://localhost:8080", s.url())
	shown, err := exec.Command("sh", "-eu", "-c", tour).CombinedOutput()
	require.NoError(t, err, "%s", shown)
	require.Contains(t, string(shown), `"logs":"Event: { name: 'Ada' }\n","status":"success"}`)
	require.Contains(t, string(shown), `"output":"Hello, Ada!"`)
}

// settings are the variables that a server reads, by reading them.
func settings(t *testing.T) (names []string) {
	t.Helper()
	_, err := configFromEnvironment(func(name string) string {
		names = append(names, name)
		return ""
	})
	require.NoError(t, err)
	return append(names, "VOLTRUN_PG_BIN", "VOLTRUN_NPM_REGISTRY") // the private Postgres reads its own
}

func TestTheReadmeAndTheHelpListEverySettingAndNoOther(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	namesIn := func(pattern, text string) (names []string) {
		for _, found := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			names = append(names, found[1])
		}
		return names
	}
	require.ElementsMatch(t, settings(t), namesIn("(?m)^\\| `([A-Z_]+)` \\|", string(readme)))
	require.ElementsMatch(t, settings(t), namesIn("(?m)^  ([A-Z_]+)  ?", environmentHelp))
}
