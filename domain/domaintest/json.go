package domaintest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"pgregory.net/rapid"
)

// JSON makes a JSON value in the form in which encoding/json writes it.
func JSON() *rapid.Generator[json.RawMessage] {
	return rapid.Map(JSONText(), func(text string) json.RawMessage {
		data, err := json.Marshal(json.RawMessage(text))
		if err != nil {
			panic(err) // the text is valid JSON
		}
		return data
	})
}

// JSONText makes a JSON value as somebody might write it: with white space anywhere, numbers of any size and precision,
// and the same key twice.
func JSONText() *rapid.Generator[string] { return jsonText(3) }

func jsonText(depth int) *rapid.Generator[string] {
	scalar := rapid.OneOf(
		rapid.SampledFrom([]string{"null", "true", "false", `"<&>\u2028"`, `"\u0000"`, `"\ud800"`}),
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?`),
		rapid.Map(rapid.String(), quote),
	)
	if depth == 0 {
		return scalar
	}
	element := rapid.Deferred(func() *rapid.Generator[string] { return jsonText(depth - 1) })
	return rapid.Custom(func(t *rapid.T) string {
		space := rapid.SampledFrom([]string{"", " ", "\n\t", "  "}).Draw(t, "space")
		elements := rapid.SliceOfN(element, 0, 3)
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			return "[" + space + strings.Join(elements.Draw(t, "array"), space+","+space) + space + "]"
		case 1:
			var members []string
			for _, value := range elements.Draw(t, "object") {
				members = append(members, quote(rapid.SampledFrom([]string{"a", "b", "<é>"}).Draw(t, "key"))+space+":"+space+value)
			}
			return "{" + space + strings.Join(members, ","+space) + space + "}"
		default:
			return space + scalar.Draw(t, "scalar") + space
		}
	})
}

// quote writes a string with as few escapes as JSON allows.
func quote(s string) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		panic(err) // every string has a form
	}
	return strings.TrimSpace(text.String())
}

// Tokens returns what a JSON text says, without how it is spaced and escaped: numbers digit by digit, keys in order, twice
// when they stand there twice.
func Tokens(text []byte) ([]json.Token, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var tokens []json.Token
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return tokens, nil
		}
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token)
	}
}
