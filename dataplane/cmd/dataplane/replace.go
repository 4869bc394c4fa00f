package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/handover"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/systemd"
	"gateway.internal/shared/observe"
	"gateway.internal/shared/shutdown"
)

// inheritance is what was opened for this process by others: the one that it replaces, and the service manager.
type inheritance struct {
	from    *handover.Predecessor // nil: nobody is replaced
	sockets handover.Sockets
	taken   bool
}

// inherit finds out what there is for this process.
func (o *options) inherit(ctx context.Context, log *slog.Logger) (*inheritance, error) {
	in := &inheritance{}
	opened, err := systemd.Sockets()
	if err != nil {
		return nil, err
	}
	if o.replace {
		in.from, err = handover.Knock(ctx, o.dataDir, observe.Version())
		switch {
		case errors.Is(err, handover.ErrNobody):
			log.Info("there is no running node to replace", "data_dir", o.dataDir)
		case err != nil:
			opened.Close()
			return nil, err
		default:
			log.Info("replacing the running node", "process", in.from.PID, "its_version", in.from.Build, "addresses", in.from.Sockets.Addresses())
			in.sockets = in.from.Sockets
			in.from.Sockets = nil
		}
	}
	in.sockets = append(in.sockets, opened...)
	return in, nil
}

// secret returns what tickets are derived from in the process that is replaced; nil: nothing that passes over.
func (in *inheritance) secret() []byte {
	if in.from == nil {
		return nil
	}
	return in.from.TicketSecret
}

// identity returns what the process that is replaced is known by to control planes, and its lock of the data folder.
func (in *inheritance) identity() (instance string, lock *os.File) {
	if in.from == nil {
		return "", nil
	}
	lock, in.from.Lock = in.from.Lock, nil
	return in.from.Instance, lock
}

// ready has the running node let go of the data folder, so that this process can read what it runs.
func (in *inheritance) ready(ctx context.Context) (*handover.Version, error) {
	if in.from == nil {
		return nil, nil //nolint:nilnil // nobody is replaced
	}
	return in.from.Ready(ctx)
}

// take makes this process the running one, if it runs what the other one does.
func (in *inheritance) take(ctx context.Context, log *slog.Logger, v *handover.Version, node *runtime.Runtime, conf *configuration) error {
	if in.from == nil {
		return nil
	}
	if v != nil && v.Epoch == filesEpoch && conf.follower != nil && node.Snapshot() == nil {
		log.Info("the running node follows files: waiting for a configuration from the control plane", "timeout", firstConfiguration.String())
		if err := conf.bring(ctx, node); err != nil {
			return fmt.Errorf("this process has no configuration, the running node follows files: %w", err)
		}
	}
	if v != nil && v.Revision > 0 {
		s := node.Snapshot()
		if s == nil {
			return fmt.Errorf("this process has no configuration, the running node has revision %d", v.Revision)
		}
		if s.Epoch == v.Epoch && s.Revision < v.Revision && s.Epoch != filesEpoch {
			return fmt.Errorf("the data folder has revision %d, the running node has revision %d: its disk does not take snapshots", s.Revision, v.Revision)
		}
	}
	if err := in.from.Take(ctx); err != nil {
		return err
	}
	in.taken = true
	return nil
}

// filesEpoch is the epoch of configurations from files, which every process numbers by itself.
const filesEpoch = "files"

// end tells the running node of a failure.
func (in *inheritance) end(err error) {
	in.sockets.Close()
	if in.from != nil && !in.taken {
		in.from.Fail(err)
	}
}

// door returns where this process is replaced in turn; nil when it can't be.
func (in *inheritance) door(dir string, log *slog.Logger) *handover.Door {
	if in.from != nil {
		return in.from.Door(log)
	}
	d, err := handover.Open(dir, log)
	if err != nil {
		log.Warn("this process can't be replaced while it runs, only stopped and started", "error", err.Error())
		return nil
	}
	return d
}

// alone waits until the process that is replaced accepts no more, and tells the service manager that this one is up.
func (in *inheritance) alone(ctx context.Context, log *slog.Logger) {
	if in.from != nil {
		in.from.Alone(ctx)
		log.Info("the node is replaced by this process", "process_before", in.from.PID, "its_version", in.from.Build)
	}
	notify(log, "READY=1")
}

func notify(log *slog.Logger, lines ...string) {
	if err := systemd.Notify(lines...); err != nil {
		log.Warn("the service manager can't be told", "error", err.Error())
	}
}

// owner is what this process gives to the next.
func (o *options) owner(listeners []*listener.Listener, status net.Listener, tickets *certificate.Tickets, conf *configuration, node *runtime.Runtime) handover.Owner {
	e := handover.Estate{Build: observe.Version()}
	for i, ln := range listeners { // in the order in which listen opens them
		name, addresses := "http", o.httpAddr
		if i >= len(addresses) {
			i -= len(addresses)
			name, addresses = "https", o.httpsAddr
		}
		address := addresses[i]
		e.Sockets = append(e.Sockets, handover.Socket{Name: name, Address: address, Listener: ln.Socket()})
	}
	e.Sockets = append(e.Sockets, handover.Socket{Name: "status", Address: o.statusAddr, Listener: status})
	if o.ticketSecretFile == "" {
		e.TicketSecret = tickets.Secret()
	}
	if f := conf.follower; f != nil {
		e.Instance, e.Lock = f.Instance(), f.Lock()
	}
	return handover.Owner{Estate: e, GoOn: conf.start, LetGo: func() handover.Version {
		conf.pause()
		if s := node.Snapshot(); s != nil {
			return handover.Version{Epoch: s.Epoch, Revision: s.Revision}
		}
		return handover.Version{}
	}}
}

// program is the path of this program as it was started: a link that leads to another version by now is followed anew.
func program() (string, error) {
	name := os.Args[0]
	if !strings.ContainsRune(name, filepath.Separator) {
		return os.Executable()
	}
	return filepath.Abs(name)
}

// helloPatience is how long a process that SIGUSR2 has started may take to say that it wants to replace this one, which
// is the first that it does.
const helloPatience = time.Minute

// respawner starts this program anew on SIGUSR2.
type respawner struct {
	log  *slog.Logger
	path string
	pid  atomic.Int64 // of the process that is to replace this one; 0: none
	// patience is how long that may take to say so; then it is ended, so that another one can be tried.
	patience time.Duration
	done     atomic.Bool // this process is replaced: what becomes of the other one is not its business any more

	mu      sync.Mutex
	awaited int // the process that has not said yet that it wants to replace this one; 0: none
}

// run waits for the signal until ctx is over.
func (r *respawner) run(ctx context.Context, asked <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			r.respawn()
		}
	}
}

func (r *respawner) respawn() {
	switch pid := r.pid.Load(); {
	case pid != 0:
		r.log.Warn("SIGUSR2: this process is being replaced already", "process", pid)
		return
	case os.Getpid() == 1:
		r.log.Error("SIGUSR2: this is the first process of a container, which would end with it; start a process with --replace beside it")
		return
	}
	args := os.Args[1:]
	if !slices.Contains(args, "--replace") {
		args = append(slices.Clone(args), "--replace")
	}
	cmd := exec.Command(r.path, args...) //nolint:gosec // its own binary
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		r.log.Error("SIGUSR2: the program can't be started; this process goes on", "program", r.path, "error", err.Error())
		return
	}
	r.log.Info("SIGUSR2: the program is started to replace this process", "program", r.path, "process", cmd.Process.Pid)
	if err := systemd.NotifyReloading(); err != nil {
		r.log.Warn("the service manager can't be told", "error", err.Error())
	}
	r.pid.Store(int64(cmd.Process.Pid))
	r.expect(cmd.Process.Pid)
	waiting := time.AfterFunc(r.patience, func() { r.giveUp(cmd.Process) })
	go func() { // until it ends, or this process
		err := cmd.Wait()
		r.expect(0)
		waiting.Stop() // where it is too late for that, nobody is awaited any more
		r.pid.Store(0)
		if r.done.Load() {
			return
		}
		r.log.Error("the program that was to replace this process has ended; this process goes on", "program", r.path, "result", fmt.Sprint(err))
		notify(r.log, "READY=1")
	}()
}

// expect says which process is awaited; 0: none.
func (r *respawner) expect(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.awaited = pid
}

// giveUp ends a process that has not said in time that it wants to replace this one. The mutex is held until it has
// been killed: one that says so at that moment is replaced by nobody, rather than by a process that is about to end.
func (r *respawner) giveUp(process *os.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.awaited != process.Pid {
		return
	}
	r.awaited = 0
	r.log.Error("the program that was to replace this process has not said so in time, and is ended", "process", process.Pid, "timeout", r.patience.String())
	_ = process.Kill()
}

// met is told that a process has said that it wants to replace this one; 0: it can't be seen which.
func (r *respawner) met(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pid == 0 || pid == r.awaited {
		r.awaited = 0
	}
}

// await serves until the process is to accept no more: by signals, or because another one has replaced it, which is
// returned and has to be told Bye. It may still do so while the process is stopping, which starts none itself then.
func await(end *shutdown.Stages, log *slog.Logger, door *handover.Door, owner handover.Owner, r *respawner, asked <-chan os.Signal) *handover.Successor {
	if door == nil {
		for {
			select {
			case <-end.Closing.Done():
				return nil
			case <-asked:
				log.Error("SIGUSR2: this process can't be replaced while it runs, since its hand-over socket could not be opened when it started")
			}
		}
	}
	waiting, cancel := context.WithCancel(end.Asked)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(waiting, asked)
	}()
	owner.Met = r.met
	next := door.Serve(end.Closing, owner)
	cancel()
	<-done
	if next == nil {
		door.Remove()
		return nil
	}
	r.done.Store(true)
	if pid := r.pid.Load(); pid != 0 && int64(next.PID) == pid {
		notify(log, fmt.Sprintf("MAINPID=%d", pid), "READY=1")
	}
	log.Info("replaced by another process, which accepts connections now", "process", next.PID, "its_version", next.Build)
	return next
}

// onReplace returns where requests to be replaced come.
func onReplace() (asked chan os.Signal, stop func()) {
	asked = make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR2)
	return asked, func() { signal.Stop(asked) }
}
