"""A PostgreSQL server of a test's own."""
import contextlib
import glob
import os
import pwd
import subprocess


def found():
    """The folder of the server's programs, and the user as whom it runs, which is not root; None where one is missing."""
    programs = sorted(glob.glob('/usr/lib/postgresql/*/bin'), key=lambda path: int(path.split('/')[4]))
    try:
        user = pwd.getpwnam('postgres') if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    except KeyError:
        user = None
    return (programs[-1], user) if programs and user else None


class Postgres:
    """Is reached through its folder, and, where it has a port, at 127.0.0.1."""

    def __init__(self, folder, port=None):
        self.programs, self.user = found()
        self.folder, self.port = folder, port
        os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        self.run('initdb', '-D', f'{folder}/data', '--auth=trust', '--no-sync')
        self.connection = f'Host={folder};Username={self.user.pw_name};Database=postgres;Maximum Pool Size=20'
        self.start()

    def run(self, program, *arguments):
        return subprocess.run([f'{self.programs}/{program}', *arguments], check=True, cwd=self.folder, stdout=subprocess.PIPE, text=True,
                              user=self.user.pw_uid, group=self.user.pw_gid).stdout

    @contextlib.contextmanager
    def locked(self, table, *at):
        """Nobody writes a table meanwhile."""
        with subprocess.Popen([f'{self.programs}/psql', '-qAt', *at], cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True, user=self.user.pw_uid, group=self.user.pw_gid) as client:
            client.stdin.write(f'BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE; SELECT 1;\n')
            client.stdin.flush()
            assert client.stdout.readline() == '1\n'
            yield  # at whose end the client, and with it the transaction, ends

    def control(self, *arguments):
        # To a pipe it would keep open, since the server has it.
        subprocess.run([f'{self.programs}/pg_ctl', '-D', f'{self.folder}/data', *arguments], check=True, cwd=self.folder,
                       stdout=subprocess.DEVNULL, user=self.user.pw_uid, group=self.user.pw_gid)

    def start(self):
        # A crash of the server alone, which tests make, loses nothing that the system was given.
        at = f'-c listen_addresses=127.0.0.1 -p {self.port}' if self.port else '-c listen_addresses='
        self.control('-w', '-l', f'{self.folder}/log', '-o', f'-k {self.folder} {at} -c fsync=off', 'start')

    def stop(self):
        self.control('-m', 'immediate', 'stop')
