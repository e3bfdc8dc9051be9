// Package guardtest takes guards out of a package's code, one at a time, and requires that a test notices: a guard that
// no test misses is a guard that the next change may lose.
//
// Nothing in the code knows of it. A copy of the sources is built in which an environment variable takes a guard out, and
// the tests run on that.
package guardtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Guard is a piece of code that keeps a promise.
type Guard struct {
	Name string
	File string // of the package under test, or of another that it uses, by the way there

	// Code stands in the file, once or several times: an expression, or statements when Without is empty.
	Code string
	// In is a piece of the file around Code that tells it from others like it.
	In string
	// Without takes the place of the expression. It has the same type. Statements are left out.
	Without string
	// Embedded is the variable with the text of a File that is not Go. Code and Without are text then.
	Embedded string

	// CaughtBy is the test, or Test/subtest, that must fail without the guard. It is empty for a piece that is taken out
	// together with the guard of the same name.
	CaughtBy string
}

// out is the variable that names the guard to take out.
const out = "VOLTRUN_WITHOUT_GUARD"

// Run checks every guard of the package whose test calls it. The tests named must pass with all guards in place, and each
// must fail without its guard.
func Run(t *testing.T, guards []Guard, env ...string) {
	binary := buildRemovable(t, guards)
	env = append(env, "RAPID_NOFAILFILE=true", "RAPID_SHRINKTIME=1ms")
	var tests []string
	for _, g := range guards {
		if g.CaughtBy != "" {
			tests = append(tests, g.test())
		}
	}
	slices.Sort(tests)
	output, err := runTests(binary, strings.Join(slices.Compact(tests), "|"), append(slices.Clone(env), out+"="))
	require.NoError(t, err, "with all guards in place:\n%s", output)
	for _, g := range guards {
		if g.CaughtBy == "" {
			continue
		}
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			output, err := runTests(binary, g.test(), append(slices.Clone(env), out+"="+g.Name))
			require.Error(t, err, "%s passes without the guard", g.CaughtBy)
			require.Contains(t, output, "--- FAIL: "+strings.ReplaceAll(g.CaughtBy, " ", "_"), "the test must fail for its own reason")
		})
	}
}

// test is the pattern that only the guard's test matches.
func (g Guard) test() string {
	parts := strings.Split(g.CaughtBy, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}

// runTests runs the tests that match. They run where the package is, as with go test.
func runTests(binary, pattern string, env []string) (string, error) {
	cmd := exec.Command(binary, "-test.run", pattern, "-test.timeout", "3m")
	cmd.Env = append(os.Environ(), env...)
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// buildRemovable builds the tests of the package with guards that can be taken out.
func buildRemovable(t *testing.T, guards []Guard) (binary string) {
	t.Helper()
	temp := t.TempDir()
	replace := map[string]string{}
	for path, text := range overlayOf(t, guards) {
		replacement := filepath.Join(temp, strings.ReplaceAll(path, "/", "_"))
		require.NoError(t, os.WriteFile(replacement, []byte(text), 0o644))
		original, err := filepath.Abs(path)
		require.NoError(t, err)
		replace[original] = replacement
	}
	config, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(temp, "overlay.json"), config, 0o644))

	binary = filepath.Join(temp, "removable.test")
	args := append([]string{"test", "-c", "-overlay", filepath.Join(temp, "overlay.json"), "-o", binary}, raceFlag()...)
	output, err := exec.Command("go", append(args, ".")...).CombinedOutput()
	require.NoError(t, err, "%s", output)
	return binary
}

// raceFlag keeps to how this test was built, whose parts are in the build cache.
func raceFlag() []string {
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return []string{"-race"}
	}
	return nil
}

// overlayOf returns the files that are different, by path. Each folder with a guard gets one file more.
func overlayOf(t *testing.T, guards []Guard) map[string]string {
	t.Helper()
	files := map[string]string{}
	embedded := map[string]string{} // statements, by folder
	for _, g := range guards {
		text, changed := files[g.File]
		if !changed {
			source, err := os.ReadFile(g.File)
			require.NoError(t, err)
			text = string(source)
		}
		where := cmp.Or(g.In, g.Code)
		require.True(t, strings.Contains(text, where) && strings.Contains(where, g.Code), "%s: the guard is not in %s any more", g.Name, g.File)
		if g.Embedded == "" {
			files[g.File] = strings.ReplaceAll(text, where, strings.Replace(where, g.Code, g.removable(), 1))
			continue
		}
		embedded[filepath.Dir(g.File)] += fmt.Sprintf("\tif guardOut == %q {\n\t\t%s = strings.ReplaceAll(%[2]s, %q, %q)\n\t}\n", g.Name, g.Embedded, g.Code, g.Without)
	}
	for _, g := range guards {
		folder := filepath.Dir(g.File)
		pkg, err := build.ImportDir(folder, 0)
		require.NoError(t, err)
		files[filepath.Join(folder, "guards_removable.go")] = fmt.Sprintf(removal, pkg.Name, out, embedded[folder])
	}
	return files
}

// removable is the guard's code with the way to take it out.
func (g Guard) removable() string {
	if g.Without == "" {
		return fmt.Sprintf("if guardOut != %q {\n%s\n}", g.Name, g.Code)
	}
	return fmt.Sprintf("guarded(%q, %s, %s)", g.Name, g.Code, g.Without)
}

// removal is what the guards refer to.
const removal = `package %s

import (
	"os"
	"strings"
)

var guardOut = os.Getenv(%q)

func guarded[T any](name string, with, without T) T {
	if guardOut == name {
		return without
	}
	return with
}

func init() {
	_ = strings.ReplaceAll
%s}
`
