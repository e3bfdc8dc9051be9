package transfer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Log is what an account is imported into.
type Log interface {
	eventstore.Store
	eventstore.Vault
}

// ImportAccount appends an account's history to another log: each event with its id, its actor and its commitment, sealed
// under a key that the account has here, and with its first position and time in its headers. Servers may run while it
// works; until the very end nobody can log in to the account. When it was killed, importing the same file again goes on.
//
// The file is read twice. Unless it is whole and as it was exported, and there is room for the account here, nothing
// changes.
func ImportAccount(ctx context.Context, log Log, codec *eventstore.Codec, key Key, from io.ReadSeeker) (Summary, error) {
	i := accountImport{log: log, codec: codec, box: key.box()}
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
		return Summary{}, fmt.Errorf("the account was not imported; import the same file again to go on, or give it up with voltrun import --abandon %s: %w", i.of, err)
	}
	return Summary{Header: checked.header, Events: i.events, SHA256: checked.sum}, nil
}

type accountImport struct {
	log   Log
	codec *eventstore.Codec
	box   *eventstore.Box

	of      uuid.UUID // whom the file says it is about
	account domain.Account
	address uuid.UUID // the stream of its email address
	events  int

	current eventstore.Write // of the stream that is being read
	pending parcel           // what is to be appended
	last    parcel           // what lets people in: it is appended at the end, together
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
	i.of = r.header.Account
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
	case r.Secret != nil && r.Secret.Owner != i.of:
		return fmt.Errorf("the file is about account %s, and has a secret of %s in it", i.of, r.Secret.Owner)
	case r.Secret != nil:
		_, err := i.secret(*r.Secret)
		return err
	case r.Event == nil:
		return errAltered
	case r.Event.AccountID != i.of:
		return fmt.Errorf("the file is about account %s, and has an event of %s in it", i.of, r.Event.AccountID)
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
	return open(i.box, s.Sealed, s.Owner[:], []byte(s.Name))
}

// open returns an event and what it says.
func (i *accountImport) open(from event) (eventstore.Event, []byte, error) {
	e := from.stored()
	disclosure, err := open(i.box, from.Disclosure, e.ID[:], []byte(e.Type))
	if err == nil {
		err = checkDisclosure(i.codec, e, disclosure)
	}
	return e, disclosure, err
}

// requireRoom refuses an account that is here already, or whose email address is somebody's here.
func (i *accountImport) requireRoom(ctx context.Context) error {
	if i.account.ID == uuid.Nil || i.account.ID != i.of || i.address == uuid.Nil {
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
