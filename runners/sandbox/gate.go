package sandbox

import "strconv"

// gateScript is the last thing that runs before the program, inside of its sandbox: it lowers the limits of its own
// process, which only the process itself can do and every shell can, says on descriptor 5 that the sandbox stands, waits
// for a line of requests until it is watched, and becomes the program. There are no core files. Shells disagree about the
// letter for the number of processes.
const (
	gateScript = `ulimit -c 0; [ -z "$1" ] || ulimit -n "$1"; [ -z "$2" ] || ulimit -f "$2"; [ -z "$3" ] || ulimit -d "$3"; ` +
		`[ -z "$4" ] || ulimit -u "$4" 2>/dev/null || ulimit -p "$4"; printf . >&5; exec 5>&-; read -r _ <&3 || exit 1; shift 4; `
	becomeProgram = `exec "$@"`

	// watchProgram is for a shell that is the first process of its namespace, which must stay to bury the others. What it
	// would say itself about the program's end is nothing that the program has printed.
	watchProgram = `exec 6>&2 2>/dev/null; "$@" 2>&6 6>&-; exit $?`
)

// gated puts the gate before a program. What the limits say of memory and processes holds for each process, and for all of
// its user: it is left out where the whole tree is bounded.
func gated(l Limits, end string, argv []string) []string {
	return append([]string{"/bin/sh", "-c", gateScript + end, "sh", positive(l.OpenFiles), positive(l.FileMB << 11), // in 512 bytes
		positive(l.MemoryMB << 10), positive(l.Processes)}, argv...)
}

func positive(n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}
