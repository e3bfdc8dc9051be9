package rest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

const retention = "/api/account/retention"

func TestAnAccountSetsItsRetention(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t, func(c *rest.Config) { c.Retention = domain.Retention{"execution.log_line": 90} })
	c, _ := register(t, s)
	operators := object{"execution.log_line": 90.0}
	require.Equal(t, object{"execution.log_line": nil, "default": operators}, c.do("GET", retention, nil, 200))
	want := object{"execution.log_line": 30.0, "default": operators}
	require.Equal(t, want, c.do("PUT", retention, object{"execution.log_line": 30}, 200))
	require.Equal(t, want, c.do("GET", retention, nil, 200))
	head := s.Head(t)
	require.Equal(t, want, c.do("PUT", retention, object{"execution.log_line": 30}, 200))
	require.Equal(t, want, c.do("PUT", retention, object{}, 200))
	require.Equal(t, head, s.Head(t), "what changes nothing is no fact")
	require.Equal(t, object{"execution.log_line": nil, "default": operators}, c.do("PUT", retention, object{"execution.log_line": nil}, 200))

	other, _ := register(t, s)
	c.do("PUT", retention, object{"execution.log_line": 1}, 200)
	require.Nil(t, other.do("GET", retention, nil, 200)["execution.log_line"], "it is the account's own")
}

func TestARetentionThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	head := s.Head(t)
	for body, says := range map[string]string{
		`{"execution.log_line":0}`:     "execution.log_line must be between 1 and 36500, but is 0.",
		`{"execution.log_line":36501}`: "execution.log_line must be between 1 and 36500, but is 36501.",
		`{"execution.log_line":-1}`:    "execution.log_line must be between 1 and 36500, but is -1.",
		`{"execution.log_line":"30"}`:  "execution.log_line must be a whole number, but is a string.",
		`{"execution.completed":30}`:   "execution.completed is not a field of this request, which has: execution.log_line.",
		`{"default":{}}`:               "default is not a field of this request, which has: execution.log_line.",
	} {
		got := requireRefusal(t, c.call("PUT", retention, body), 400, body)
		require.Equal(t, says, got["error"])
	}
	require.Equal(t, head, s.Head(t))
}
