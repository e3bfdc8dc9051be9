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
