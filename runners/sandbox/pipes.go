package sandbox

import "os"

// pipes are the four pipes between the server and an instance. They are *os.Files of our own, so that nothing waits for the
// ends that a child of the program may have inherited.
type pipes struct {
	requests, answers, stdout, stderr *os.File // ours
	theirs                            [4]*os.File
}

// newPipes makes the pipes. Whoever starts the process closes their ends then.
func newPipes() (*pipes, error) {
	var ours, theirs [4]*os.File
	for i := range ours {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(ours[:])
			closeAll(theirs[:])
			return nil, err
		}
		ours[i], theirs[i] = r, w
	}
	ours[0], theirs[0] = theirs[0], ours[0] // only requests go the other way
	return &pipes{requests: ours[0], answers: ours[1], stdout: ours[2], stderr: ours[3], theirs: theirs}, nil
}

// Requests implements Instance.
func (p *pipes) Requests() *os.File { return p.requests }

// Answers implements Instance.
func (p *pipes) Answers() *os.File { return p.answers }

// Stdout implements Instance.
func (p *pipes) Stdout() *os.File { return p.stdout }

// Stderr implements Instance.
func (p *pipes) Stderr() *os.File { return p.stderr }

// closeTheirs lets go of the ends that the process has by now.
func (p *pipes) closeTheirs() { closeAll(p.theirs[:]) }

func (p *pipes) close() { closeAll([]*os.File{p.requests, p.answers, p.stdout, p.stderr}) }

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}
