package transfer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// What one append of an import has, about. An execution's events are never divided: an executor that saw a part of them
// would run it again.
const (
	appendEvents = 2000
	appendBytes  = 8 << 20
)

var appendStreams = 500 // fewer in tests

// parcel is a number of writes.
type parcel struct {
	writes        []eventstore.Write
	events, bytes int
}

func (p *parcel) add(w eventstore.Write) {
	p.writes = append(p.writes, w)
	p.events += len(w.Events)
	p.bytes += sizeOf(w)
}

func (p *parcel) full() bool {
	return p.events >= appendEvents || len(p.writes) >= appendStreams || p.bytes >= appendBytes
}

func sizeOf(w eventstore.Write) (bytes int) {
	for _, e := range w.Events {
		bytes += len(e.Data)
	}
	return bytes
}

// take imports a record.
func (i *accountImport) take(ctx context.Context, r record) error {
	if r.Secret != nil {
		content, err := i.secret(*r.Secret)
		if err != nil {
			return err
		}
		_, err = i.log.PutNew(ctx, r.Secret.Owner, r.Secret.Name, content)
		if errors.Is(err, eventstore.ErrNoSecret) {
			err = errors.New("the account was erased here")
		}
		return err
	}
	e, disclosure, err := i.open(*r.Event)
	if err != nil {
		return err
	}
	e.NewEvent, err = i.codec.Reseal(ctx, withOrigin(e, r.Event.Leaf), disclosure)
	if err != nil {
		return err
	}
	if i.current.StreamID != e.StreamID {
		if err := i.endStream(ctx); err != nil {
			return err
		}
		i.current = eventstore.Write{StreamID: e.StreamID, Expected: eventstore.New}
	}
	i.current.Events = append(i.current.Events, e.NewEvent)
	return i.divide(ctx)
}

// withOrigin notes in an event's headers where it comes from, unless it was imported before.
func withOrigin(e eventstore.Event, leaf []byte) eventstore.NewEvent {
	headers := map[string]string{
		eventstore.HeaderPosition:   strconv.FormatInt(int64(e.Position), 10),
		eventstore.HeaderRecordedAt: e.RecordedAt.UTC().Format(time.RFC3339Nano),
	}
	if len(leaf) > 0 {
		headers[eventstore.HeaderLeaf] = hex.EncodeToString(leaf)
	}
	if _, before := e.Headers[eventstore.HeaderPosition]; before {
		clear(headers)
	}
	for name, value := range e.Headers {
		headers[name] = value
	}
	e.Headers = headers
	return e.NewEvent
}

// divide appends what was read of a stream that is too long for one append, but for the newest event: see holdNewest.
func (i *accountImport) divide(ctx context.Context) error {
	w, n := i.current, len(i.current.Events)-1
	if strings.HasPrefix(w.Events[0].Type, "execution.") || i.isLast(w) || n == 0 || len(w.Events) < appendEvents && sizeOf(w) < appendBytes {
		return nil
	}
	w, i.current = splitAt(w, n)
	if err := i.flush(ctx); err != nil { // so that nothing overtakes
		return err
	}
	i.pending.add(w)
	return i.flush(ctx)
}

// isLast tells whether a stream lets somebody in.
func (i *accountImport) isLast(w eventstore.Write) bool {
	return w.StreamID == i.account.ID || w.StreamID == i.address || w.Events[0].Type == (domain.KeyCreated{}).EventType()
}

// endStream puts the stream that was read with those that wait.
func (i *accountImport) endStream(ctx context.Context) error {
	w := i.current
	i.current = eventstore.Write{}
	switch {
	case len(w.Events) == 0:
		return nil
	case i.isLast(w):
		i.last.add(w)
		return nil
	case w.Events[0].Type == (domain.KeyUsed{}).EventType():
		w = i.holdNewest(w)
	}
	if len(w.Events) > 0 {
		i.pending.add(w)
	}
	if i.pending.full() {
		return i.flush(ctx)
	}
	return nil
}

// holdNewest leaves the newest use of a key for the end, when the key is there that it says something about. All uses may be
// too many for that append.
func (i *accountImport) holdNewest(uses eventstore.Write) (rest eventstore.Write) {
	rest, newest := splitAt(uses, len(uses.Events)-1)
	i.last.add(newest)
	return rest
}

// splitAt makes two writes of one, the first with n events.
func splitAt(w eventstore.Write, n int) (first, second eventstore.Write) {
	second = eventstore.Write{StreamID: w.StreamID, Expected: w.Expected + eventstore.ExpectedVersion(n), Events: w.Events[n:]}
	w.Events = w.Events[:n]
	return w, second
}

// flush appends the streams that wait.
func (i *accountImport) flush(ctx context.Context) error {
	writes := i.pending.writes
	i.pending = parcel{}
	if len(writes) == 0 {
		return nil
	}
	_, err := i.log.Append(ctx, writes...)
	if !eventstore.IsConflict(err) {
		return err
	}
	missing := writes[:0]
	for _, w := range writes { // some are here from an import that did not come to its end
		there, err := i.isThere(ctx, w)
		if err != nil {
			return err
		}
		if !there {
			missing = append(missing, w)
		}
	}
	if len(missing) > 0 {
		_, err = i.log.Append(ctx, missing...)
		return err
	}
	return nil
}

// isThere tells whether a stream has the events of a write in their place already. It may have grown since.
func (i *accountImport) isThere(ctx context.Context, w eventstore.Write) (bool, error) {
	here, err := i.streamOf(ctx, w.StreamID)
	if err != nil || len(here) == int(w.Expected) {
		return false, err
	}
	for n, e := range w.Events {
		if at := int(w.Expected) + n; at >= len(here) || here[at].ID != e.ID {
			return false, fmt.Errorf("the stream %s is here already, with another history", w.StreamID)
		}
	}
	return true, nil
}
