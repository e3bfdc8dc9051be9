package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"

	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"
)

// asFloor makes the test binary be the floor of the benchmarks, with the database that it writes to.
const asFloor = "VOLTRUN_TEST_AS_FLOOR"

// floor is the least that a server does which runs functions and forgets nothing: it commits an event before the call and
// one after it, in groups, and hands the call to one of a few warm processes over a pipe. It checks nothing.
type floor struct {
	appends  chan *floorAppend
	children chan *floorChild
}

type floorAppend struct {
	data []byte
	done chan error
}

func serveFloor(dsn string, listener net.Listener) error {
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(context.Background(), "create table if not exists floor (position bigint generated always as identity primary key, data bytea not null)"); err != nil {
		return err
	}
	f := &floor{appends: make(chan *floorAppend, 1000), children: make(chan *floorChild, 2*runtime.NumCPU())}
	for range cap(f.children) {
		child, err := startFloorChild()
		if err != nil {
			return err
		}
		f.children <- child
	}
	go f.commit(conn)
	router := mux.NewRouter()
	router.HandleFunc("/invoke/{id}", f.invoke).Methods(http.MethodPost)
	return http.Serve(listener, router)
}

// commit takes whatever waits and commits it together.
func (f *floor) commit(conn *pgx.Conn) {
	for first := range f.appends {
		batch := []*floorAppend{first}
		for more := true; more; {
			select {
			case a := <-f.appends:
				batch = append(batch, a)
			default:
				more = false
			}
		}
		data := make([][]byte, len(batch))
		for i, a := range batch {
			data[i] = a.data
		}
		_, err := conn.Exec(context.Background(), "insert into floor (data) select unnest($1::bytea[])", data)
		for _, a := range batch {
			a.done <- err
		}
	}
}

func (f *floor) append(data []byte) error {
	a := &floorAppend{data, make(chan error, 1)}
	f.appends <- a
	return <-a.done
}

func (f *floor) invoke(w http.ResponseWriter, r *http.Request) {
	input, err := io.ReadAll(r.Body)
	if err == nil {
		err = f.append(floorEvent("requested", input))
	}
	var output []byte
	if err == nil {
		child := <-f.children
		output, err = child.call(input)
		f.children <- child
	}
	if err == nil {
		err = f.append(floorEvent("completed", output))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(output)
}

// floorEvent is an event of about 300 bytes.
func floorEvent(kind string, data json.RawMessage) []byte {
	event, _ := json.Marshal(map[string]any{"type": kind, "data": data, "about": fmt.Sprintf("%250d", 0)})
	return event
}

// floorChild is a Node.js that answers lines with lines.
type floorChild struct {
	in  io.Writer
	out *bufio.Reader
}

const floorScript = `
const { readSync, writeSync } = require('node:fs');
const handler = async (event) => { return { n: event.n + 1 } };
const buffer = Buffer.alloc(1 << 16);
(async () => {
  for (;;) {
    const n = readSync(0, buffer);
    if (n === 0) process.exit(0);
    writeSync(1, JSON.stringify(await handler(JSON.parse(buffer.toString('utf8', 0, n)))) + '\n');
  }
})()`

func startFloorChild() (*floorChild, error) {
	cmd := exec.Command("node", "-e", floorScript)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &floorChild{in: in, out: bufio.NewReader(out)}, cmd.Start()
}

func (c *floorChild) call(input []byte) ([]byte, error) {
	if _, err := c.in.Write(append(input, '\n')); err != nil {
		return nil, err
	}
	return c.out.ReadBytes('\n')
}
