// Package storm is a node in bad company: clients and services that stall, cut, answer early and reset, and a
// configuration that changes all the time. Beside them, on the same connections, are neighbours that do nothing wrong.
// None of their requests may fail, or get a byte of somebody else's, and nothing may be left when it is over.
package storm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Settings are those of one storm.
type Settings struct {
	// Binary is the data plane, and Folder where its files go.
	Binary, Folder string
	// Cores is how many the node uses; 0: all. With one, what belongs together is interrupted at other places than with
	// several.
	Cores int
	// Duration is how long it blows. Longer than a minute, memory has to be flat too.
	Duration time.Duration
	// Stuck are the services, one of HTTP/1.1 and two of HTTP/2, that never read some of the uploads that they are sent.
	Stuck []string
	// Out gets a line now and then.
	Out io.Writer
}

const (
	// answerWithin is how long a neighbour waits for one response: a limit for faults, not for slow machines.
	answerWithin = 30 * time.Second
	// spare is how many goroutines and files more than before are no leak: what runs now and then.
	spare = 16
	// reported is how many failures are told.
	reported = 20
)

// storm is one that blows.
type storm struct {
	Settings
	node     *node
	services *services
	ids      atomic.Uint64
	requests atomic.Int64 // of neighbours, answered
	hostile  atomic.Int64 // what others have done
	reloads  atomic.Int64

	mu       sync.Mutex
	failures []string
	failed   int
}

// fail records that a neighbour was harmed.
func (s *storm) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed++
	if len(s.failures) < reported {
		s.failures = append(s.failures, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

// Run has a storm blow, and returns what went wrong.
func Run(ctx context.Context, set Settings) error {
	s := &storm{Settings: set}
	var err error
	if s.services, err = startServices(); err != nil {
		return err
	}
	defer s.services.stop()
	if s.node, err = startNode(set, s.services); err != nil {
		return err
	}
	defer s.node.stop()

	// What the node is like after some ordinary traffic is what it has to be like at the end.
	if err := s.blow(ctx, min(s.Duration/10, 5*time.Second), false); err != nil {
		return err
	}
	before, err := s.rest(ctx, func(now state) bool { return now.connections == 0 })
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	var memory []float64
	var watch sync.WaitGroup
	watch.Go(func() { memory = s.watch(watching) })
	err = s.blow(ctx, s.Duration, true)
	stop()
	watch.Wait()
	if err != nil {
		return err
	}
	after, err := s.rest(ctx, func(now state) bool {
		return now.connections == 0 && now.goroutines <= before.goroutines+spare && now.files <= before.files+spare
	})
	fmt.Fprintf(s.Out, "%d requests of neighbours and %d of others, %d configurations\n%v before, %v after\n", s.requests.Load(), s.hostile.Load(), s.reloads.Load(), before, after)
	return errors.Join(err, s.harm(), s.node.complaints(), grows(memory))
}

// harm returns what neighbours suffered.
func (s *storm) harm() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d requests of neighbours failed:", s.failed, s.requests.Load()+int64(s.failed))
	for _, f := range s.failures {
		text += "\n  " + f
	}
	return errors.New(text)
}

// blow has all clients at it for a time; without the hostile ones, and with a configuration that stays, it is a fair
// day.
func (s *storm) blow(ctx context.Context, within time.Duration, storm bool) error {
	ctx, stop := context.WithTimeout(ctx, within)
	defer stop()
	var all sync.WaitGroup
	for _, begin := range s.neighbours(storm) {
		all.Go(func() { begin(ctx) })
	}
	if storm {
		for _, begin := range s.hostiles() {
			all.Go(func() { begin(ctx) })
		}
		all.Go(func() { s.reload(ctx) })
	}
	all.Wait()
	if err := s.node.gone(); err != nil {
		return errors.Join(err, s.harm())
	}
	return nil
}

// reload gives the node another configuration again and again. Routes and services of neighbours stay what they are.
func (s *storm) reload(ctx context.Context) {
	for n := 1; ctx.Err() == nil; n++ {
		if err := s.node.configure(s.services, n); err != nil {
			s.fail("the configuration: %v", err)
			return
		}
		s.reloads.Add(1)
		pause(ctx, 200*time.Millisecond+rand.N(600*time.Millisecond))
	}
}

// rest waits until the node is at rest, and returns what it is like.
func (s *storm) rest(ctx context.Context, ok func(state) bool) (now state, err error) {
	for end := time.Now().Add(2 * time.Minute); ; pause(ctx, 200*time.Millisecond) {
		if now, err = s.node.state(); err != nil || ok(now) {
			return now, err
		}
		if err := ctx.Err(); err != nil {
			return now, err
		}
		if time.Now().After(end) {
			s.node.dump(os.Stderr)
			return now, fmt.Errorf("the node does not come to rest: %v", now)
		}
	}
}

// watch looks at the node's memory until ctx is over.
func (s *storm) watch(ctx context.Context) (memory []float64) {
	told := time.Now()
	for ctx.Err() == nil {
		pause(ctx, time.Second)
		now, err := s.node.state()
		if err != nil {
			continue
		}
		memory = append(memory, now.memory)
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			s.mu.Lock()
			fmt.Fprintf(s.Out, "%d requests of neighbours, %d failed, %d of others; %v\n", s.requests.Load(), s.failed, s.hostile.Load(), now)
			s.mu.Unlock()
		}
	}
	return memory
}

// grows compares the memory of the last third with that of the second one; the first belongs to pools that find their
// size.
func grows(memory []float64) error {
	third := len(memory) / 3
	if third < 20 {
		return nil
	}
	most := func(part []float64) (m float64) {
		for _, v := range part {
			m = max(m, v)
		}
		return m
	}
	if second, last := most(memory[third:2*third]), most(memory[2*third:]); last > 1.25*second+8 {
		return fmt.Errorf("memory grows: at most %.1f MiB in the second third, and %.1f in the last", second, last)
	}
	return nil
}

// pause waits for a time, or until ctx is over.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
