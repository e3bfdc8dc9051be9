package sandbox

import "sync"

// census counts the processes of an instance. To find them takes a dozen files for a program with threads; but as long as
// the control group has as many tasks as were there when there was none, beside the program's threads, there is none.
type census struct {
	mu     sync.Mutex
	others int // tasks that are not the program's, when nobody else was there; 0 when that is not known
}

func (c *census) count(tasks func() int, of tree) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	others := othersOf(tasks, of)
	if others > 0 && others == c.others {
		return 0, nil
	}
	n, err := of.processes()
	if n == 0 && err == nil && others == othersOf(tasks, of) {
		c.others = others
	}
	return n, err
}

// othersOf is 0 where tasks are not counted.
func othersOf(tasks func() int, of tree) int {
	program := of.program()
	if program == 0 {
		return 0
	}
	return tasks() - threadsOf(program)
}
