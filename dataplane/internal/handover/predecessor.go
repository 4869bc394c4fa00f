package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
)

// Predecessor is the running process as its successor sees it. One goroutine uses it, in the order of Ready, Take and
// Alone, until Fail or Alone.
type Predecessor struct {
	// Estate is what was offered; it is the successor's now.
	Estate
	// PID is 0 where the process is in a PID namespace that can't be seen.
	PID int

	patience patience

	dir  string
	conn *net.UnixConn
	door *net.UnixListener
	gone bool // it has died
}

// Knock asks the running process of a data folder for what it has. It is ErrNobody where there is none.
func Knock(ctx context.Context, dir, build string) (*Predecessor, error) {
	return knock(ctx, dir, build, usual)
}

func knock(ctx context.Context, dir, build string, patience patience) (*Predecessor, error) {
	conn, err := dial(dir)
	if err != nil {
		return nil, err
	}
	p := &Predecessor{dir: dir, conn: conn, patience: patience}
	if _, err = sameUser(conn); err == nil {
		err = nameSenders(conn)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("the running node: %w", err)
	}
	if err = tell(ctx, conn, &message{kind: kindHello, text: build}, nil); err == nil {
		err = p.offered(ctx)
	}
	if err != nil {
		p.Fail(err)
		return nil, fmt.Errorf("the running node does not hand over: %w", explain(ctx, err))
	}
	return p, nil
}

// explain says what the errors of messages mean to the successor.
func explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w; perhaps it is being replaced by another process", err)
	}
	return err
}

// offered takes the estate.
func (p *Predecessor) offered(ctx context.Context) error {
	m, files, err := expect(ctx, p.conn, p.patience.offer, kindOffer)
	if err != nil {
		return err
	}
	p.PID = m.sender // the door's own word would be the first process that ever opened it
	p.Build, p.Instance, p.TicketSecret = m.offer.build, m.offer.instance, m.offer.secret
	listening := files[:1+len(m.offer.names)]
	if m.offer.locked {
		p.Lock = files[len(listening)]
	}
	for i, f := range listening {
		ln, err := Adopt(f)
		if err != nil {
			closeAll(listening[i+1:])
			return err
		}
		if i > 0 {
			p.Sockets = append(p.Sockets, Socket{Name: m.offer.names[i-1].name, Address: m.offer.names[i-1].address, Listener: ln})
			continue
		}
		u, ok := ln.(*net.UnixListener)
		if !ok {
			_ = ln.Close()
			closeAll(listening[i+1:])
			return errors.New("the first descriptor is not that of the hand-over socket")
		}
		p.door = u
	}
	return nil
}

// Ready says that all is set up that does not need the data folder, and returns what the running process runs when it
// has let go of the folder: nil when it has died, and nobody is to be asked any longer.
func (p *Predecessor) Ready(ctx context.Context) (*Version, error) {
	err := tell(ctx, p.conn, &message{kind: kindReady}, nil)
	var m *message
	if err == nil {
		m, _, err = expect(ctx, p.conn, p.patience.letGo, kindGo)
	}
	if err == nil {
		return &m.version, nil
	}
	if err = p.verdict(ctx, err); err != nil {
		return nil, fmt.Errorf("the running node does not let go: %w", err)
	}
	return nil, nil //nolint:nilnil // it is said above
}

// verdict makes of an error what the running process gave as its reason, or nil when it has died without a word.
func (p *Predecessor) verdict(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) {
		p.gone = true
		return nil
	}
	return explain(ctx, err)
}

// Take makes this process the running one, which has to accept connections from now on. It is an error when the other
// one did not wait for it; then nothing may be accepted.
func (p *Predecessor) Take(ctx context.Context) error {
	if p.gone {
		return nil
	}
	err := tell(ctx, p.conn, &message{kind: kindTaken}, nil)
	if err == nil {
		return nil
	}
	if err = p.verdict(ctx, err); err != nil {
		return fmt.Errorf("the running node did not wait: %w", err)
	}
	return nil
}

// Door returns the door, through which this process is replaced in turn. It follows Take.
func (p *Predecessor) Door(log *slog.Logger) *Door {
	d := &Door{dir: p.dir, ln: p.door, log: log, patience: p.patience}
	p.door = nil
	return d
}

// Alone waits until the other process accepts no more.
func (p *Predecessor) Alone(ctx context.Context) {
	_, _, _ = expect(ctx, p.conn, p.patience.bye, kindBye)
	_ = p.conn.Close()
}

// Fail tells the running process why this one does not replace it, and closes what is left of what was offered. What
// was taken out of it is the caller's to close.
func (p *Predecessor) Fail(err error) {
	if err != nil {
		refuse(p.conn, err)
	}
	_ = p.conn.Close()
	p.Sockets.Close()
	if p.door != nil {
		_ = p.door.Close()
	}
	if p.Lock != nil {
		_ = p.Lock.Close()
	}
}
