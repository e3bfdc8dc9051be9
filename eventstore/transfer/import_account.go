package transfer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Log is what an account is imported into.
type Log interface {
	eventstore.Store
	eventstore.Vault
}

// What one append of an import has, about. An execution's events are never divided: an executor that saw a part of them
// would run it again.
const (
	appendEvents  = 2000
	appendStreams = 500
	appendBytes   = 8 << 20
)

// ImportAccount appends an account's history to another log: each event with its id, its actor and its commitment, sealed
// under a key that the account has here, and with its first position and time in its headers. Servers may run while it
// works; until the very end nobody can log in to the account. When it was killed, importing the same file again goes on.
//
// The file is read twice. Unless it is whole and as it was exported, and there is room for the account here, nothing
// changes.
func ImportAccount(ctx context.Context, log Log, codec *eventstore.Codec, key Key, from io.ReadSeeker) (Summary, error) {
	i := accountImport{log: log, codec: codec, sealer: key.sealer()}
	checked, err := i.read(from, key, i.check)
	if err == nil {
		err = i.requireRoom(ctx)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("nothing was imported: %w", err)
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return Summary{}, err
	}
	again, err := i.read(from, key, func(r record) error { return i.take(ctx, r) })
	if err == nil && string(again.sum) != string(checked.sum) {
		err = errors.New("the file was changed while it was imported")
	}
	if err == nil {
		err = i.finish(ctx, checked)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("the account was not imported; import the same file again to go on: %w", err)
	}
	return Summary{Header: checked.header, Events: i.events, SHA256: checked.sum}, nil
}

type accountImport struct {
	log    Log
	codec  *eventstore.Codec
	sealer sealer

	account domain.Account
	address uuid.UUID // the stream of its email address
	events  int

	current eventstore.Write // of the stream that is being read
	pending parcel           // what is to be appended
	last    parcel           // what lets people in: it is appended at the end, together
}

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

// read reads the file to its end.
func (i *accountImport) read(from io.Reader, key Key, use func(record) error) (*reader, error) {
	r, err := openReader(from, key)
	if err != nil {
		return nil, err
	}
	if r.header.Of != oneAccount {
		return nil, errors.New("the file holds a whole log and not one account")
	}
	for rec, err := range r.records() {
		if err == nil {
			err = use(rec)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// check makes sure that a record is what it should be, and finds out whom the file is about.
func (i *accountImport) check(r record) error {
	switch {
	case r.Secret != nil:
		_, err := i.secret(*r.Secret)
		return err
	case r.Event == nil:
		return errAltered
	}
	e, disclosure, err := i.open(*r.Event)
	if err != nil {
		return err
	}
	i.events++
	if strings.HasPrefix(e.Type, "email.") {
		i.address = e.StreamID
	}
	if e.StreamID != e.AccountID {
		return nil
	}
	fact, err := i.codec.DecodeContent(e.Type, e.SchemaVersion, eventstore.Content(disclosure))
	if err == nil {
		i.account = i.account.Evolve(fact)
	}
	return err
}

func (i *accountImport) secret(s secret) ([]byte, error) {
	return i.sealer.open(s.Sealed, s.Owner[:], []byte(s.Name))
}

// open returns an event and what it says.
func (i *accountImport) open(from event) (eventstore.Event, []byte, error) {
	e := from.stored()
	disclosure, err := i.sealer.open(from.Disclosure, e.ID[:], []byte(e.Type))
	if err == nil {
		err = checkDisclosure(i.codec, e, disclosure)
	}
	return e, disclosure, err
}

// requireRoom refuses an account that is here already, or whose email address is somebody's here.
func (i *accountImport) requireRoom(ctx context.Context) error {
	if i.account.ID == uuid.Nil || i.address == uuid.Nil {
		return errAltered
	}
	known, err := i.streamOf(ctx, i.account.ID)
	if err != nil {
		return err
	}
	if len(known) > 0 {
		return fmt.Errorf("account %s (%s) is here already, or was", i.account.ID, i.account.Email)
	}
	reservation, _, err := i.reservation(ctx)
	if err != nil {
		return err
	}
	if reservation.AccountID != uuid.Nil {
		return fmt.Errorf("the email address %s belongs to another account here (%s)", i.account.Email, reservation.AccountID)
	}
	return nil
}

// reservation is whom the email address belongs to here, and the version of its stream.
func (i *accountImport) reservation(ctx context.Context) (domain.EmailReservation, int, error) {
	var r domain.EmailReservation
	events, err := i.streamOf(ctx, i.address)
	for _, e := range events {
		fact, decodeErr := i.codec.Decode(ctx, e.NewEvent)
		if decodeErr != nil {
			return r, 0, decodeErr
		}
		r = r.Evolve(fact)
	}
	return r, len(events), err
}

func (i *accountImport) streamOf(ctx context.Context, id uuid.UUID) (events []eventstore.Event, err error) {
	for e, err := range i.log.ReadStream(ctx, id, 0) {
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
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
	e.NewEvent, err = i.codec.Reseal(ctx, withOrigin(e, r.Event.Leaf), disclosure, r.Event.Plain)
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

// divide appends what was read of a stream that is too long for one append.
func (i *accountImport) divide(ctx context.Context) error {
	w := i.current
	if strings.HasPrefix(w.Events[0].Type, "execution.") || i.isLast(w) || len(w.Events) < appendEvents && sizeOf(w) < appendBytes {
		return nil
	}
	i.current = eventstore.Write{StreamID: w.StreamID, Expected: w.Expected + eventstore.ExpectedVersion(len(w.Events))}
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
	}
	i.pending.add(w)
	if i.pending.full() {
		return i.flush(ctx)
	}
	return nil
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

// finish opens the account: its own stream and its email address, and the fact that it was imported, in one append.
func (i *accountImport) finish(ctx context.Context, file *reader) error {
	if err := i.endStream(ctx); err != nil {
		return err
	}
	if err := i.flush(ctx); err != nil {
		return err
	}
	fact := domain.AccountImported{Source: file.header.Source, Events: i.events, SHA256: hex.EncodeToString(file.sum)}
	imported, err := i.codec.Encode(ctx, uuid.Must(uuid.NewV7()), fact, eventstore.Metadata{
		AccountID: i.account.ID, Actor: domain.Actor{Kind: domain.ActorSystem},
	})
	if err != nil {
		return err
	}
	for n := range i.last.writes {
		w := &i.last.writes[n]
		switch w.StreamID {
		case i.account.ID:
			w.Events = append(w.Events, imported)
		case i.address:
			if w.Expected, err = i.free(ctx); err != nil {
				return err
			}
		}
	}
	_, err = i.log.Append(ctx, i.last.writes...)
	return err
}

// free is the version of the address's stream when it is nobody's.
func (i *accountImport) free(ctx context.Context) (eventstore.ExpectedVersion, error) {
	reservation, version, err := i.reservation(ctx)
	if err == nil && reservation.AccountID != uuid.Nil {
		err = fmt.Errorf("the email address %s was taken while the account was imported", i.account.Email)
	}
	return eventstore.Exactly(version), err
}
