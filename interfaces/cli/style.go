package cli

import (
	"io"
	"os"
)

// style colours what is printed on a terminal, and leaves everything else as it is.
type style bool

// styleFor looks where the output goes. NO_COLOR, when set to anything, keeps it plain (https://no-color.org).
func styleFor(out io.Writer) style {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := file.Stat()
	return style(err == nil && info.Mode()&os.ModeCharDevice != 0)
}

func (s style) paint(code, text string) string {
	if !s {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string   { return s.paint("1", text) }
func (s style) dim(text string) string    { return s.paint("2", text) }
func (s style) red(text string) string    { return s.paint("31", text) }
func (s style) green(text string) string  { return s.paint("32", text) }
func (s style) yellow(text string) string { return s.paint("33", text) }
