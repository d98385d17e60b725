//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// superuser owns the cluster, whatever the system's user is called.
const superuser = "postgres"

const dirPrefix = "fermata-postgres-"

// tools are the programs of one PostgreSQL installation and who may run them.
type tools struct {
	bin string
	// credential is set when the tests run as root, whom initdb refuses.
	credential *syscall.Credential
}

func findTools() (tools, error) {
	var t tools
	var places []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		places = append(places, strings.TrimSpace(string(out)))
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is valid
	slices.SortFunc(debian, func(a, b string) int { return majorOf(b) - majorOf(a) })
	places = append(places, debian...)
	if path, err := exec.LookPath("initdb"); err == nil {
		places = append(places, filepath.Dir(path))
	}
	complete := slices.IndexFunc(places, func(dir string) bool {
		for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
			if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
				return false
			}
		}
		return true
	})
	if complete < 0 {
		return t, errAbsent
	}
	t.bin = places[complete]
	if os.Geteuid() != 0 {
		return t, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return t, fmt.Errorf("user %s: %w", name, err)
		}
		t.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return t, nil
	}
	return t, errors.New("the tests run as root, which initdb refuses, and there is no user postgres or nobody to run it as")
}

func majorOf(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))) // not a number: last
	return n
}

func (t tools) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(t.bin, name), args...)
	t.prepare(cmd)
	return cmd
}

func (t tools) prepare(cmd *exec.Cmd) {
	cmd.Dir = "/"
	// A group of its own: an interrupt at the terminal is for the tests, which then end, and the server with them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: t.credential, Setpgid: true}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func startServer() (*Server, error) {
	t, err := findTools()
	if err != nil {
		return nil, err
	}
	removeStale(t)
	dir, err := os.MkdirTemp("", dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, err
	}
	s := &Server{tools: t, dir: dir}
	if t.credential != nil {
		if err := os.Chown(dir, int(t.credential.Uid), int(t.credential.Gid)); err != nil {
			return nil, err
		}
	}
	if err := s.watch(); err != nil {
		return nil, err
	}
	// The new cluster needn't survive a power cut; what is committed in it later is synced.
	out, err := t.command("initdb", "--no-sync", "-A", "trust", "-U", superuser, "-E", "UTF8", "--locale=C", "-D", s.data()).CombinedOutput()
	if err != nil {
		s.remove()
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	for range 5 { // the free port may be taken before the server has it
		if s.port, err = freePort(); err == nil {
			err = s.launch()
		}
		if err == nil {
			return s, nil
		}
	}
	s.remove()
	return nil, err
}

func (s *Server) launch() error {
	log := filepath.Join(s.dir, "log")
	options := fmt.Sprintf("-c listen_addresses=127.0.0.1 -c port=%d -c unix_socket_directories='' -c max_connections=200", s.port)
	if err := s.tools.command("pg_ctl", "-D", s.data(), "-l", log, "-o", options, "-w", "-t", "60", "start").Run(); err != nil {
		tail, _ := os.ReadFile(log) // only more words for the error
		return fmt.Errorf("pg_ctl start: %w\n%s", err, tail[max(0, len(tail)-2000):])
	}
	return nil
}

// Stop ends the server as a crash would, with all connections, and returns when it is gone.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if out, err := s.tools.command("pg_ctl", "-D", s.data(), "-m", "immediate", "-w", "stop").CombinedOutput(); err != nil {
		t.Fatalf("pgtest: stop: %v\n%s", err, out)
	}
}

// Restart starts a server that was stopped or killed and returns when it
// accepts connections, after crash recovery.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	// The processes of a killed server need a moment to see that it is dead;
	// until then the new one refuses to share their memory.
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := s.launch()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("pgtest: restart: %v", err)
		}
	}
}

// Kill sends SIGKILL to the server's main process. The others notice and die.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	pid, err := s.pid()
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatalf("pgtest: kill: %v", err)
	}
}

func (s *Server) pid() (int, error) {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(strings.TrimSpace(first))
}

// watch starts a process that outlives this one: when the pipe to it
// closes, it stops the server and removes its directory.
func (s *Server) watch() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", `cat >/dev/null
"$1/pg_ctl" -D "$2/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$2"`, "sh", s.tools.bin, s.dir)
	s.tools.prepare(cmd)
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		w.Close()
		return err
	}
	s.guard = w
	return cmd.Process.Release()
}

func (s *Server) remove() {
	s.guard.Close()
}

// removeStale cleans up after test binaries whose watcher was killed too.
func removeStale(t tools) {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*")) // the pattern is valid
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		n, err := strconv.Atoi(pid)
		if err != nil || !errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			continue
		}
		// Both fail if the watcher is at it right now; that is as good.
		_ = t.command("pg_ctl", "-D", filepath.Join(dir, "data"), "-m", "immediate", "-w", "stop").Run()
		_ = os.RemoveAll(dir)
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
