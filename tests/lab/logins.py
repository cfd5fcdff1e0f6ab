"""Servers that ask who is there: OpenSSH and vsftpd in pods, and passwords that are never right."""

from __future__ import annotations

import shlex

from tests.lab.stage import Stage

_SSHD = (
    "-o UsePAM=yes -o PasswordAuthentication=yes -o PermitRootLogin=yes -o StrictModes=no -o PidFile=none "
    "-o MaxStartups=100"
)
_VSFTPD = "listen=YES background=NO anonymous_enable=YES local_enable=YES seccomp_sandbox=NO no_anon_password=YES"


def place(pod: str) -> str:
    """The folder of a pod's server; removed and made anew when it starts."""
    return f"/tmp/sluicelab-{pod}"


def ssh(pod: str) -> str:
    """The client's command with the key that the server in `pod` knows."""
    quiet = "-q -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    return f"ssh {quiet} -i {place(pod)}/key"


def sshd(stage: Stage, pod: str, port: int = 22) -> None:
    """OpenSSH with a key of its own, which lets in who has the client's key."""
    folder = place(pod)
    keys = [f"ssh-keygen -q -t ed25519 -N '' -f {folder}/{name}" for name in ("host", "key")]
    serve = f"exec /usr/sbin/sshd -D -p {port} -h {folder}/host {_SSHD} -o AuthorizedKeysFile={folder}/key.pub"
    _serve(stage, pod, [*keys, "mkdir -p /run/sshd", serve], port)


def vsftpd(stage: Stage, pod: str) -> None:
    """vsftpd with a public folder of twenty files, and with accounts that nobody gets into."""
    settings = f"{_VSFTPD} anon_root={place(pod)}/files secure_chroot_dir={place(pod)}/empty"
    files = f"for n in $(seq 20); do head -c 20000 /dev/zero > files/$n; done; printf '%s\\n' {settings} > conf"
    _serve(stage, pod, [files, "exec vsftpd conf"], 21)


def _serve(stage: Stage, pod: str, lines: list[str], port: int) -> None:
    begin = [f"rm -rf {place(pod)}", f"mkdir -p {place(pod)}/files {place(pod)}/empty", f"cd {place(pod)}"]
    child = stage.begin(pod, ["sh", "-c", " && ".join([*begin, *lines])])
    stage.listening(child, port, udp=False)


def guess(stage: Stage, pod: str, target: str, count: int = 120) -> None:
    """Let hydra try so many passwords of a service in a pod, none of which is right."""
    words = "\n".join(f"Summer{2000 + number}!" for number in range(count))
    folder = place("attacker")
    prepare = f"mkdir -p {folder} && printf {shlex.quote(words + chr(10))} > {folder}/words"
    stage.tool("attacker", ["sh", "-c", prepare])
    with stage.attack(f"brute_force_{target.partition(':')[0].partition('-')[0]}", "attacker", pod):
        # hydra is slow to give up where nothing was found: it is ended when many tries are over.
        stage.attempt("attacker", f"sh -c 'cd {folder} && timeout 40 hydra -I -l root -P words {target}'")
