package privatepg

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestMajor is the oldest Postgres that VoltRun runs on.
const oldestMajor = 14

// waysOut tells what somebody can do who has no usable binaries.
const waysOut = "Three ways out: install PostgreSQL 14 or newer (on Debian: apt install postgresql), " +
	"set VOLTRUN_PG_BIN to the folder of an installed one's programs, or set DATABASE_URL to a server that you run."

// binaries are the programs of one Postgres.
type binaries struct {
	dir     string // holds postgres and initdb
	version string // such as "15.18"
	major   int
	minor   int
	fetched bool // whether they were downloaded just now
}

func (b binaries) program(name string) string { return filepath.Join(b.dir, name) }

// usualPlaces are where packages put the programs of Postgres, as patterns.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                   // the PostgreSQL project's RPMs
	"/usr/local/pgsql/bin",                               // built from source
	"/usr/libexec/postgresql*",                           // Alpine
	"/opt/homebrew/opt/postgresql*/bin",                  // Homebrew on Apple silicon
	"/usr/local/opt/postgresql*/bin",                     // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",     // Homebrew on Linux
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
}

// finder looks for binaries.
type finder struct {
	explicit string   // the one folder to take them from; empty: look around
	places   []string // patterns of folders to look at
	source   source   // where to fetch them when there are none
	dataDir  string   // for messages
}

// find returns the binaries to use. wanted is the major version that made the cluster, 0 when there is no cluster yet.
func (f finder) find(ctx context.Context, wanted int) (binaries, error) {
	if f.explicit != "" {
		return f.named(ctx, wanted)
	}
	installed := installed(ctx, f.places)
	for _, b := range installed {
		if b.major == wanted || wanted == 0 && b.major >= oldestMajor {
			return b, nil
		}
	}
	if wanted != 0 && wanted != pinnedMajor {
		return binaries{}, mismatch(f.dataDir, wanted, installed)
	}
	b, err := f.source.obtain(ctx)
	if err != nil {
		return binaries{}, fmt.Errorf("no PostgreSQL was found on this machine, and fetching one failed: %w. %s", err, waysOut)
	}
	return b, nil
}

// named returns the binaries of the folder that the user named.
func (f finder) named(ctx context.Context, wanted int) (binaries, error) {
	b, err := inspect(ctx, f.explicit)
	if err != nil {
		b, err = inspect(ctx, filepath.Join(f.explicit, "bin"))
	}
	switch {
	case err != nil:
		return b, fmt.Errorf("VOLTRUN_PG_BIN names %s, which has no usable postgres and initdb: %w", f.explicit, err)
	case b.major < oldestMajor:
		return b, fmt.Errorf("VOLTRUN_PG_BIN names PostgreSQL %s in %s, but VoltRun needs %d or newer", b.version, b.dir, oldestMajor)
	case wanted != 0 && b.major != wanted:
		return b, mismatch(f.dataDir, wanted, []binaries{b})
	}
	return b, nil
}

// mismatch says that there are no binaries for a cluster. The cluster is left as it is.
func mismatch(dataDir string, wanted int, found []binaries) error {
	have := "none was found"
	if len(found) > 0 {
		names := make([]string, len(found))
		for i, b := range found {
			names[i] = fmt.Sprintf("%s in %s", b.version, b.dir)
		}
		have = "found was only " + strings.Join(names, ", ")
	}
	return fmt.Errorf("the data folder %s was made by PostgreSQL %d and needs that version; %s. "+
		"Install PostgreSQL %d, or set VOLTRUN_PG_BIN to the folder of its programs, or move the data with pg_dump. "+
		"Nothing was changed.", dataDir, wanted, have, wanted)
}

// installed returns the binaries in these places, newest first.
func installed(ctx context.Context, places []string) []binaries {
	var found []binaries
	for _, dir := range programFolders(places) {
		if b, err := inspect(ctx, dir); err == nil {
			found = append(found, b)
		}
	}
	slices.SortStableFunc(found, func(a, b binaries) int {
		return cmp.Or(cmp.Compare(b.major, a.major), cmp.Compare(b.minor, a.minor))
	})
	return found
}

// programFolders returns the folders in these places that hold a postgres, each once and by its real path: distributions
// link single programs into PATH.
func programFolders(places []string) []string {
	var dirs []string
	for _, place := range places {
		matches, _ := filepath.Glob(filepath.Join(place, "postgres")) // the only error is a malformed pattern
		for _, match := range matches {
			postgres, err := realPath(match)
			if dir := filepath.Dir(postgres); err == nil && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// searchedPlaces are the usual places and the folders of PATH.
func searchedPlaces() []string {
	return append(slices.Clone(usualPlaces), filepath.SplitList(os.Getenv("PATH"))...)
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)(?:\.(\d+))?\S*)`)

// inspect returns the binaries in dir, with the version that they say they have.
func inspect(ctx context.Context, dir string) (binaries, error) {
	b := binaries{dir: dir}
	postgres := b.program("postgres")
	if _, err := exec.LookPath(b.program("initdb")); err != nil {
		return b, err
	}
	cmd := exec.CommandContext(ctx, postgres, "--version")
	cmd.Env = environment()
	output, err := cmd.Output()
	if err != nil {
		return b, fmt.Errorf("%s does not run here: %w", postgres, err)
	}
	match := versionPattern.FindStringSubmatch(string(output))
	if match == nil {
		return b, fmt.Errorf("%s says that it is %q", postgres, strings.TrimSpace(string(output)))
	}
	b.version = match[1]
	b.major, _ = strconv.Atoi(match[2])
	b.minor, _ = strconv.Atoi(match[3])
	return b, nil
}

// environment is what Postgres' programs get to see of ours: enough to run, no PG* variable and no secret.
func environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"} // messages that we understand; times as VoltRun shows them
	for _, name := range []string{"PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
