package rest_test

import (
	"html"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

func TestThePageStandsOnItsOwnUnderAStrictPolicy(t *testing.T) {
	t.Parallel()
	c := newClient(t, resttest.Start(t))
	page := c.call("GET", "/", "")
	require.Equal(t, 200, page.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", page.Header.Get("Content-Type"))
	policy := page.Header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.NotContains(t, policy, "unsafe")
	text := string(page.body)
	require.NotRegexp(t, `(?i)<script|style=|<style|onclick|(src|href)="(https?:)?//`, text)
	for _, linked := range regexp.MustCompile(`(?:src|href)="(/[^"]*)"`).FindAllStringSubmatch(text, -1) {
		got := c.call("GET", linked[1], "")
		require.Equal(t, 200, got.StatusCode, linked[1])
		require.NotEmpty(t, got.Header.Get("Content-Type"))
	}
	head := c.call("HEAD", "/", "")
	require.Equal(t, 200, head.StatusCode)
	require.Empty(t, head.body)
}

func TestWhatThePageSaysToTypeWorks(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the page's examples need %s", tool)
		}
	}
	s := resttest.Start(t)
	var script strings.Builder
	page := string(newClient(t, s).call("GET", "/", "").body)
	for _, block := range regexp.MustCompile(`(?s)<pre[^>]*><code>(.*?)</code></pre>`).FindAllStringSubmatch(page, -1) {
		script.WriteString(html.UnescapeString(block[1]) + "\n")
	}
	output, err := exec.CommandContext(t.Context(), "sh", "-e", "-c", script.String()).CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(output), `"status":"pending","input":{"name":"Ada"}`)
	require.Contains(t, string(output), `{"execution_id":`)
}
