package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// otherCores are those that the proxy does not have: it has the first one.
func otherCores() string { return "1-" + strconv.Itoa(maxCore()) }

func maxCore() int {
	present, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err == nil {
		text := strings.TrimSpace(string(present))
		if n, err := strconv.Atoi(text[strings.LastIndexAny(text, "-,")+1:]); err == nil && n > 0 {
			return n
		}
	}
	return 1
}

// process is a server with its children.
type process struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// launch starts a server on some cores.
func launch(cores string, env []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command("taskset", append([]string{"-c", cores, name}, args...)...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = time.Second
	return p, p.cmd.Start()
}

func (p *process) stop() {
	if p == nil || p.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	_ = p.cmd.Wait()
}

// await waits until an address accepts connections.
func (p *process) await(address string) error {
	until := time.Now().Add(20 * time.Second)
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(until) || syscall.Kill(p.cmd.Process.Pid, 0) != nil {
			p.stop()
			return fmt.Errorf("%s does not listen on %s:\n%s", p.cmd.Args[3], address, p.log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// pids returns the process and its descendants.
func (p *process) pids() []int {
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, t := range tasks {
			text, _ := os.ReadFile(t)
			for _, f := range strings.Fields(string(text)) {
				if n, err := strconv.Atoi(f); err == nil {
					all = append(all, n)
				}
			}
		}
	}
	return all
}

// cpu returns what the process and its descendants have used so far, user and system time.
func (p *process) cpu() (time.Duration, error) {
	var total time.Duration
	for _, pid := range p.pids() {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, err
		}
		for _, t := range threads {
			text, err := os.ReadFile(t)
			if err != nil {
				continue // a thread that has ended
			}
			ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
			if err != nil {
				return 0, err
			}
			total += time.Duration(ns)
		}
	}
	return total, nil
}

// freePort returns a port that nobody uses.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = ln.Close() }()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port), nil
}
