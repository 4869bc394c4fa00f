//go:build race

package socket

// limits remembers whether the waits of a connection have a limit. One that has none, or only what was left of the
// limit of an earlier wait, is a fault that shows when a peer stalls: in builds with the race detector, which is how
// tests are run, it is a panic instead. Other builds know nothing of it.
type limits struct {
	reads, writes bool // ReadWithin, WriteWithin was called since the last wait
	always        bool // ReadAlways was
}

func (l *limits) setRead() { l.reads, l.always = true, false }

func (l *limits) setAlways() { l.always = true }

func (l *limits) setWrite() { l.writes = true }

// dropRead is for what takes the deadline of reads away.
func (l *limits) dropRead() { l.reads, l.always = false, false }

// read is for one wait.
func (l *limits) read() {
	l.reading()
	l.reads = false
}

// reading is for waits of which there may be many within the limit.
func (l *limits) reading() {
	if !l.reads && !l.always {
		panic("socket: a read without a limit of its own: ReadWithin has to be called before it")
	}
}

func (l *limits) write() {
	if !l.writes {
		panic("socket: a write without a limit of its own: WriteWithin has to be called before it")
	}
	l.writes = false
}
