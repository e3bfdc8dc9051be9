package rest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// everyKind has a field of each kind that bodies have.
type everyKind struct {
	Name     string          `json:"name"`
	Status   *string         `json:"status,omitempty"`
	MemoryMB *int            `json:"memory_mb"`
	Retries  int             `json:"retries"`
	At       *time.Time      `json:"at"`
	Input    json.RawMessage `json:"input"`
}

func TestDecodeFillsWhatIsGivenAndLeavesTheRest(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)
	memory, status := 256, "active"
	got := everyKind{Retries: 7}
	err := decodeObject([]byte(" {\"name\":\"\\u0041da 😀\",\n\"status\":\"active\",\"memory_mb\":256,\"at\":\"2030-01-31T12:00:00Z\",\"input\":[1,{\"a\":null}]} "), &got)
	require.NoError(t, err)
	require.Equal(t, everyKind{
		Name: "Ada 😀", Status: &status, MemoryMB: &memory, Retries: 7, At: &at, Input: json.RawMessage(`[1,{"a":null}]`),
	}, got)

	var empty everyKind
	require.NoError(t, decodeObject([]byte(`{}`), &empty))
	require.Zero(t, empty)
}

func TestDecodeKeepsARawValueWhateverItIs(t *testing.T) {
	t.Parallel()
	for _, value := range []string{`null`, `"text"`, `-1.5e99`, `{"a":1,"a":2}`, `"\u0000"`, strings.Repeat("[", 500) + strings.Repeat("]", 500)} {
		var body everyKind
		require.NoError(t, decodeObject([]byte(`{"input":`+value+`}`), &body), value)
		require.Equal(t, value, string(body.Input))
	}
}

func TestDecodeSaysWhatIsWrongWithABody(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"":                       "The body is empty. Send a JSON object.",
		" \n\t ":                 "The body is empty. Send a JSON object.",
		"{":                      "The body is not valid JSON: it ends too early, at line 1, column 2.",
		`{"name":}`:              "The body is not valid JSON: unexpected '}' at line 1, column 9.",
		"{\n  \"é\": 1,\n  é\n}": "The body is not valid JSON: unexpected 'é' at line 3, column 3.",
		`{"name":"a"} x`:         "The body is not valid JSON: unexpected 'x' at line 1, column 14.",
		`{"name":"a"}{}`:         "The body is not valid JSON: unexpected '{' at line 1, column 13.",
		`{"name":"a",}`:          "The body is not valid JSON: unexpected '}' at line 1, column 13.",
		`{'name':'a'}`:           `The body is not valid JSON: unexpected '\'' at line 1, column 2.`,
		"{\"name\":\"a\x00\"}":   `The body is not valid JSON: unexpected '\x00' at line 1, column 11.`,
		"\ufeff{}":               `The body is not valid JSON: unexpected '\ufeff' at line 1, column 1.`,
		"{\"name\":\"\xff\"}":    "The body is not valid UTF-8 at line 1, column 10.",
		`[]`:                     "The body must be a JSON object, but is a list.",
		`"text"`:                 "The body must be a JSON object, but is a string.",
		` null`:                  "The body must be a JSON object, but is null.",
		`true`:                   "The body must be a JSON object, but is a boolean.",
		`-7`:                     "The body must be a JSON object, but is a number.",
		`{"input":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`: "The body is nested too deeply.",
	} {
		err := decodeObject([]byte(body), &everyKind{})
		require.True(t, domain.IsCode(err, domain.Invalid), shorten(body))
		require.Equal(t, want, err.Error(), shorten(body))
	}
}

func TestDecodeSaysWhatIsWrongWithAField(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"name":1}`:                         "name must be a string, but is a number.",
		`{"name":null}`:                      "name must be a string, but is null.",
		`{"status":{}}`:                      "status must be a string, but is an object.",
		`{"memory_mb":"128"}`:                "memory_mb must be a whole number, but is a string.",
		`{"memory_mb":null}`:                 "memory_mb must be a whole number, but is null.",
		`{"memory_mb":1.5}`:                  "memory_mb must be a whole number without a fraction or an exponent, but is 1.5.",
		`{"memory_mb":1e99}`:                 "memory_mb must be a whole number without a fraction or an exponent, but is 1e99.",
		`{"memory_mb":99999999999999999999}`: "memory_mb must be a whole number of at most 18 digits, but is 99999999999999999999.",
		`{"retries":true}`:                   "retries must be a whole number, but is a boolean.",
		`{"retries":[]}`:                     "retries must be a whole number, but is a list.",
		`{"at":1}`:                           `at must be a time in RFC 3339 such as "2030-01-31T12:00:00Z", but is a number.`,
		`{"at":"tomorrow"}`:                  `at must be a time in RFC 3339 such as "2030-01-31T12:00:00Z", but is "tomorrow".`,
		`{"name":"a","name":"b"}`:            "name is given twice.",
		`{"NAME":"a"}`:                       "NAME is not a field of this request, which has: name, status, memory_mb, retries, at, input.",
		`{"":1}`:                             " is not a field of this request, which has: name, status, memory_mb, retries, at, input.",
	} {
		err := decodeObject([]byte(body), &everyKind{})
		require.True(t, domain.IsCode(err, domain.Invalid), shorten(body))
		require.Equal(t, want, err.Error(), shorten(body))
	}
}

func TestDecodeNamesEveryWrongFieldInOrder(t *testing.T) {
	t.Parallel()
	err := decodeObject([]byte(`{"memory_mb":"x","name":"fine","surprise":1,"at":0}`), &everyKind{})
	var refusal *domain.Error
	require.ErrorAs(t, err, &refusal)
	var names []string
	for _, f := range refusal.Fields {
		names = append(names, f.Field)
	}
	require.Equal(t, []string{"memory_mb", "surprise", "at"}, names)
	require.Equal(t, "memory_mb must be a whole number, but is a string. (and 2 more, see fields)", refusal.Message)
}

func TestDecodeDoesNotAnswerAFloodOfMistakesWithAFlood(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000)
	body := "{" + strings.Repeat(`"`+long+`":1,`, 100) + `"y":1}`
	var refusal *domain.Error
	require.ErrorAs(t, decodeObject([]byte(body), &everyKind{}), &refusal)
	require.Len(t, refusal.Fields, maxWrongFields)
	require.Less(t, len(refusal.Fields[0].Message), 500)
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"a","memory_mb":1,"input":{"a":[1,2]}}`, `{"name":"a","name":"b"}`, `{"memory_mb":1e9}`, `{"at":"2030-01-31T12:00:00Z"}`,
		"{\"name\":\"\xff\"}", "{\"name\":\"\\ud800\"}", `{"a":`, `[]`, "", "\x00", `{"x":` + strings.Repeat("[", 50), `{"name":null}`, `{"retries":-0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got everyKind
		err := decodeObject(body, &got)
		if err != nil {
			var refusal *domain.Error
			require.ErrorAs(t, err, &refusal, "every body is either good or the client's mistake")
			require.True(t, utf8.ValidString(refusal.Message))
			require.NotContains(t, refusal.Message, "json:")
			return
		}
		var reference everyKind
		require.NoError(t, json.Unmarshal(body, &reference), "what is accepted is JSON")
		require.Equal(t, reference, got, "and means what it means to everybody else")
	})
}

func BenchmarkDecodeLargestInput(b *testing.B) {
	body := []byte(`{"input":[` + strings.Repeat(`{"name":"Ada","n":1},`, 290_000) + `1]}`)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		require.NoError(b, decodeObject(body, &everyKind{}))
	}
}
