package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"
)

// Door is where successors find the running process: a Unix socket in the data folder, of mode 0600. One goroutine uses
// it.
type Door struct {
	dir string
	ln  *net.UnixListener
	log *slog.Logger

	patience patience
}

// Open makes the door of a data folder, and the folder where there is none. It is an error when another process that
// runs has one there.
func Open(dir string, log *slog.Logger) (*Door, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	path := socketPath(dir)
	switch conn, err := dial(dir); {
	case err == nil:
		_ = conn.Close()
		return nil, fmt.Errorf("data folder %s: another node uses it; give each node its own --data-dir", dir)
	case !errors.Is(err, ErrNobody):
		return nil, err
	}
	// Nobody can come before the mode is right, and one that was left behind by a crash is replaced at once.
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: fresh, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("hand-over socket: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		_ = ln.Close()
		_ = os.Remove(fresh)
		return nil, fmt.Errorf("hand-over socket: %w", err)
	}
	return &Door{dir: dir, ln: ln, log: log, patience: usual}, nil
}

// dial connects to the door of a data folder. It is ErrNobody where nobody opens.
func dial(dir string) (*net.UnixConn, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socketPath(dir), Net: "unixpacket"})
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNobody
	}
	return nil, fmt.Errorf("hand-over socket: %w", err)
}

// Remove closes the door for good.
func (d *Door) Remove() {
	_ = os.Remove(socketPath(d.dir))
	_ = d.ln.Close()
}

// Owner is the process behind a door.
type Owner struct {
	// Estate is offered.
	Estate Estate
	// LetGo makes the process write nothing to the data folder, and returns what it runs.
	LetGo func() Version
	// GoOn takes that back: the successor has failed.
	GoOn func()
	// Met is called when a process, 0 where it can't be seen which, has said that it wants to be the successor; from then
	// on it is waited for at each step only so long. nil: nobody is told.
	Met func(pid int)
}

// Successor is the process that has replaced this one. It accepts connections.
type Successor struct {
	// PID is 0 where it is in a PID namespace that can't be seen.
	PID   int
	Build string
	conn  *net.UnixConn
}

// Bye tells the successor that it is alone.
func (s *Successor) Bye() {
	_ = send(s.conn, &message{kind: kindBye}, nil)
	_ = s.conn.Close()
}

// Serve lets successors in, one after the other, until one has replaced the process, which then has to stop accepting
// and to say Bye. It returns nil when ctx is over. Of those that fail the log tells.
func (d *Door) Serve(ctx context.Context, o Owner) *Successor {
	for {
		_ = d.ln.SetDeadline(time.Time{})
		stop := context.AfterFunc(ctx, func() { _ = d.ln.SetDeadline(past) })
		conn, err := d.ln.AcceptUnix()
		stop()
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				_ = conn.Close()
			}
			return nil
		case err != nil:
			d.log.Error("hand-over socket", "error", err.Error())
			pause(ctx, time.Second)
			continue
		}
		if s := d.attempt(ctx, conn, &o); s != nil {
			disown(d.ln)
			_ = d.ln.Close()
			for _, x := range o.Estate.Sockets {
				disown(x.Listener)
			}
			return s
		}
		_ = conn.Close()
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// attempt goes with a successor through the steps, and returns nil when it fails.
func (d *Door) attempt(ctx context.Context, conn *net.UnixConn, o *Owner) *Successor {
	pid, err := sameUser(conn)
	if err != nil {
		d.log.Warn("hand-over socket: connection refused", "error", err.Error())
		return nil
	}
	hello, _, err := expect(ctx, conn, d.patience.hello, kindHello)
	if errors.Is(err, io.EOF) {
		return nil // somebody who only wanted to know whether anybody is here
	}
	if err == nil {
		if o.Met != nil {
			o.Met(pid)
		}
		d.log.Info("another process is about to replace this one", "process", pid, "its_version", hello.text)
		err = d.handOver(ctx, conn, o)
	}
	if err == nil {
		return &Successor{PID: pid, Build: hello.text, conn: conn}
	}
	if ctx.Err() != nil {
		err = errors.New("the running node stops")
	}
	if _, ok := errors.AsType[*refusedError](err); !ok {
		refuse(conn, err)
	}
	d.log.Error("the process that was to replace this one has failed; this one goes on", "process", pid, "error", err.Error())
	return nil
}

func (d *Door) handOver(ctx context.Context, conn *net.UnixConn, o *Owner) error {
	if err := d.offer(ctx, conn, &o.Estate); err != nil {
		return err
	}
	if _, _, err := expect(ctx, conn, d.patience.ready, kindReady); err != nil {
		return err
	}
	v := o.LetGo()
	err := tell(ctx, conn, &message{kind: kindGo, version: v}, nil)
	if err == nil {
		err = d.taken(ctx, conn)
	}
	if err != nil {
		o.GoOn()
	}
	return err
}

// taken waits until the successor has taken over. When it is not waited for any longer, it can't do so any longer: it
// is the kernel that decides which of the two came first.
func (d *Door) taken(ctx context.Context, conn *net.UnixConn) error {
	_, _, err := expect(ctx, conn, d.patience.taken, kindTaken)
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		return err
	}
	if conn.CloseRead() == nil {
		if _, _, lastErr := expect(context.WithoutCancel(ctx), conn, sendTimeout, kindTaken); lastErr == nil {
			return nil
		}
	}
	return err
}

// offer sends the estate.
func (d *Door) offer(ctx context.Context, conn *net.UnixConn, e *Estate) error {
	if len(e.Sockets) > MaxSockets {
		return fmt.Errorf("there are %d listening sockets; at most %d can be handed over", len(e.Sockets), MaxSockets)
	}
	m := &message{kind: kindOffer, offer: offer{build: e.Build, instance: e.Instance, secret: e.TicketSecret, locked: e.Lock != nil}}
	shared := []any{d.ln}
	for _, x := range e.Sockets {
		m.offer.names = append(m.offer.names, name{x.Name, x.Address})
		shared = append(shared, x.Listener)
	}
	if e.Lock != nil {
		shared = append(shared, e.Lock)
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
	}()
	for _, x := range shared {
		c, ok := x.(syscall.Conn)
		if !ok {
			return fmt.Errorf("a %T can't be handed over", x)
		}
		fd, err := duplicate(c)
		if err != nil {
			return fmt.Errorf("hand over a descriptor: %w", err)
		}
		fds = append(fds, fd)
	}
	return tell(ctx, conn, m, fds)
}
