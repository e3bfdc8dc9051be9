package projections

import "context"

// Abandon leaves what a rebuild leaves whose process was killed.
func (r *Rebuilder) Abandon(ctx context.Context, name string) error {
	g, err := newGeneration(ctx, r.pool.Config().ConnConfig, find(r.list, name))
	if err != nil {
		return err
	}
	return g.conn.Close(ctx)
}

// InPagesOf returns the rebuilder with pages of so many events.
func (r *Rebuilder) InPagesOf(events Position) *Rebuilder {
	changed := *r
	changed.pipeline.pageEvents = events
	return &changed
}
