package transfer

import (
	"context"
	"errors"
	"io"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// HeaderOf reads what a file is and leaves it at its beginning. It fails for a file that this key or this version cannot
// read.
func HeaderOf(file io.ReadSeeker, key Key) (Header, error) {
	r, err := openReader(file, key)
	_, seekErr := file.Seek(0, io.SeekStart)
	if err = errors.Join(err, seekErr); err != nil {
		return Header{}, err
	}
	return r.header, nil
}

// IsAccount tells whether a file holds one account and not a whole log.
func (h Header) IsAccount() bool { return h.Of == oneAccount }

// Import is ImportLog or ImportAccount, as the file says. accept is for a whole log.
func Import(
	ctx context.Context, store *postgres.Store, codec *eventstore.Codec, key Key, file io.ReadSeeker, accept func(Header) error,
) (Summary, error) {
	h, err := HeaderOf(file, key)
	if err != nil {
		return Summary{}, err
	}
	if h.IsAccount() {
		return ImportAccount(ctx, store, codec, key, file)
	}
	return ImportLog(ctx, store, codec, key, file, accept)
}
