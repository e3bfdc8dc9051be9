package projections

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// shadow lets queries read rows in the place of a read model's tables.
type shadow struct {
	db      Querier
	story   *story
	changes *Changes
}

// Query implements Querier: in front of the query it puts a common table expression with each table's name, which hides
// the table.
func (s shadow) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	all := arguments(slices.Clone(args))
	hiding := make([]string, len(s.story.projection.Tables))
	for i, t := range s.story.projection.Tables {
		hiding[i] = s.hide(t, &all)
	}
	separator := " "
	if rest, more := strings.CutPrefix(sql, "with "); more {
		separator, sql = ", ", rest
	}
	return s.db.Query(ctx, "with "+strings.Join(hiding, ", ")+separator+sql, all...)
}

func (s shadow) hide(t *Table, args *arguments) string {
	rows := rowsOf(t, s.changes)
	arrays := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		arrays[i] = args.add(rows.values[i]) + "::" + c.Type + "[]"
	}
	source := s.story.source[t]
	if source == "" {
		source = "select * from rows"
	}
	return fmt.Sprintf("%s as materialized (with rows (%s) as (select * from unnest(%s)) %s)",
		t.Name, rows.names(), strings.Join(arrays, ", "), source)
}

// rowsOf are the rows that changes leave of a table that was empty.
func rowsOf(t *Table, changes *Changes) *arrays {
	rows := newArrays(t, allColumns)
	if tc := changes.tables[t]; tc != nil {
		for _, ch := range tc.order {
			if ch.created {
				rows.add(ch)
			}
		}
	}
	return rows
}
