package projections

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Digest stands for the rows of a table, whatever their physical order. Tables with the same rows have the same one.
type Digest struct {
	Rows int64  `json:"rows"`
	Hash string `json:"hash"` // 128 bits in hexadecimal
}

func (d Digest) String() string { return fmt.Sprintf("%d rows, %s", d.Rows, d.Hash) }

// digest reads the table in the given schema. tx is set up so that values have one text whatever the session.
func (t *Table) digest(ctx context.Context, tx pgx.Tx, schema string) (Digest, error) {
	for _, setting := range []string{"timezone to 'UTC'", "datestyle to 'ISO'", "bytea_output to 'hex'", "extra_float_digits to 1"} {
		if _, err := tx.Exec(ctx, "set local "+setting); err != nil {
			return Digest{}, fmt.Errorf("hash the table %s: %w", t.Name, err)
		}
	}
	// Two hashes of 64 bits with different seeds, each joined over the rows by exclusive or, which knows no order. Rows
	// have keys, so that none is there twice and cancels itself.
	row := "row(" + columnNames(t.Columns) + ")::text"
	query := fmt.Sprintf("select count(*), coalesce(bit_xor(hashtextextended(%[1]s, 1)), 0), coalesce(bit_xor(hashtextextended(%[1]s, 2)), 0) from %[2]s.%[3]s",
		row, schema, t.Name)
	var d Digest
	var first, second int64
	if err := tx.QueryRow(ctx, query).Scan(&d.Rows, &first, &second); err != nil {
		return Digest{}, fmt.Errorf("hash the table %s: %w", t.Name, err)
	}
	d.Hash = fmt.Sprintf("%016x%016x", uint64(first), uint64(second))
	return d, nil
}

// digests reads all of the projection's tables.
func (p *Projection) digests(ctx context.Context, tx pgx.Tx, schema string) (map[string]Digest, error) {
	digests := make(map[string]Digest, len(p.Tables))
	for _, t := range p.Tables {
		d, err := t.digest(ctx, tx, schema)
		if err != nil {
			return nil, err
		}
		digests[t.Name] = d
	}
	return digests, nil
}

func columnNames(columns []Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}
