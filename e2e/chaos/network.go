package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// network is a network namespace with a pair of virtual interfaces that join it to the machine's. It has no name: it
// ends with the process that it was made for.
type network struct {
	device          string
	outside, inside string // addresses of the two ends
	pid             int
}

// networkless returns why processes can't have networks of their own here; empty: they can.
func networkless() string {
	if os.Geteuid() != 0 {
		return "network namespaces need root"
	}
	for _, name := range []string{"ip", "nsenter"} {
		if _, err := installed(name); err != nil {
			return name + " is not installed"
		}
	}
	return ""
}

// newNetwork chooses addresses, of the range for measurements (RFC 2544), by a port that nobody else has.
func newNetwork(port int) *network {
	block := port / 2 * 4
	end := func(n int) string {
		return fmt.Sprintf("198.%d.%d.%d", 18+(block+n)>>16, (block+n)>>8&0xff, (block+n)&0xff)
	}
	return &network{device: fmt.Sprint("chaos", port), outside: end(1), inside: end(2)}
}

// connect joins the namespace of a process to the machine's.
func (n *network) connect(pid int) error {
	n.pid = pid
	link := fmt.Sprintf("link add %s type veth peer name eth0 netns %d", n.device, pid)
	if err := command("ip", strings.Fields(link)...); err != nil {
		return err
	}
	for _, c := range []string{"address add " + n.inside + "/30 dev eth0", "link set eth0 up", "link set lo up"} {
		if err := n.within(strings.Fields(c)...); err != nil {
			return err
		}
	}
	for _, c := range []string{"address add " + n.outside + "/30 dev " + n.device, "link set " + n.device + " up"} {
		if err := command("ip", strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}

// cut has the namespace drop all that comes in, since it has no way to answer.
func (n *network) cut() error { return n.within("route", "add", "blackhole", n.outside+"/32") }

// mend takes back what cut did.
func (n *network) mend() error { return n.within("route", "del", "blackhole", n.outside+"/32") }

// within runs ip in the namespace.
func (n *network) within(args ...string) error {
	return command("nsenter", append([]string{"--target", strconv.Itoa(n.pid), "--net", "ip"}, args...)...)
}

func command(name string, args ...string) error {
	path, err := installed(name)
	if err != nil {
		return err
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
