#!/usr/bin/env python3
"""The gateway beside nginx and a direct connection, in interleaved rounds. README.md says how to read it.

  bench.py [--rounds 15] [--workloads a,b,c1,c8,c1_last,c8_last,d200,translated,idle,start] [--hub PATH] [--before PATH] [--out FILE]

Builds the load programs, starts a mock worker, nginx and HAProxy (those that are installed), the hub, and an
earlier build of it if one is named, measures, prints the report, and ends all of them. Exit status 1, and a line for
each, if a limit is exceeded. Linux only: CPU and memory are read from /proc.
"""
import argparse, http.client, json, os, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CLIENT = HERE + '/target/release/perf-client'
WORKER = HERE + '/target/release/mock-worker'
PORTS = {'direct': 19000, 'nginx': 19001, 'haproxy': 19003, 'hub': 19100, 'before': 19200}

LAT = ['lat', '--warmup', '200', '--body-bytes']
BIG = ['--body-bytes', '5000000']
WORKLOADS = {
    'a': LAT + ['300', '--conns', '1', '--secs', '1'],
    'b': LAT + ['300', '--conns', '32', '--secs', '1'],
    'c1': ['lat', '--conns', '1', '--count', '60', '--warmup', '5'] + BIG,
    'c8': ['lat', '--conns', '8', '--count', '160', '--warmup', '8'] + BIG,
    'c1_last': ['lat', '--conns', '1', '--count', '60', '--warmup', '5', '--model-last', 'true'] + BIG,
    'c8_last': ['lat', '--conns', '8', '--count', '160', '--warmup', '8', '--model-last', 'true'] + BIG,
    'd200': ['stream', '--conns', '200', '--repeat', '3', '--chunks', '200', '--interval-us', '5000', '--ramp-ms', '1000'],
    'translated': ['stream', '--conns', '100', '--repeat', '3', '--chunks', '200', '--interval-us', '5000', '--ramp-ms', '1000'],
    'idle': ['stream', '--conns', '500', '--chunks', '6', '--interval-us', '1000000', '--ramp-ms', '1000'],
}
# The same events of the worker, by the API that the client speaks.
DOORS = {'passed through': '/v1/chat/completions', 'Messages': '/v1/messages', 'Responses': '/v1/responses', 'Ollama': '/api/chat'}
# The most that the translation of an event may cost more than its passing through, in microseconds of CPU, and what its
# delay may be of the other's, within what a shared machine measures.
MOST_MORE, MOST_DELAY = 3.0, 1.15
COLUMNS = {
    'lat': [('p50 us', 'lat.p50'), ('p99 us', 'lat.p99'), ('req/s', 'rps'), ('cpu s/1k', 'proxy_cpu_s_per_1k'),
            ('start MiB', 'rss_start_kb'), ('peak MiB', 'rss_hwm_kb'), ('end MiB', 'rss_end_kb'), ('errors', 'errors')],
    'stream': [('first p50', 'ttft.p50'), ('delay p50', 'oneway.p50'), ('delay p99', 'oneway.p99'), ('events/s', 'events_per_s'),
               ('us cpu/ev', 'cpu_us_per_event'), ('start MiB', 'rss_start_kb'), ('peak MiB', 'rss_hwm_kb'), ('errors', 'errors')],
}


class Bench:
    def __init__(self, hub, before):
        self.hubs = {'hub': hub} | ({'before': before} if before else {})
        self.run = tempfile.mkdtemp(prefix='gateway-bench-')
        self.started = []

    def spawn(self, *command):
        log = open(f'{self.run}/{len(self.started)}.log', 'ab')
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.run)
        self.started.append(process)
        return process.pid

    def targets(self):
        targets = {'direct': self.spawn(WORKER, '--port', str(PORTS['direct']))}
        nginx = shutil.which('nginx', path=os.environ['PATH'] + ':/usr/sbin')
        if nginx:
            config = open(HERE + '/nginx.conf').read().replace('RUNDIR', self.run)
            open(self.run + '/nginx.conf', 'w').write(config)
            targets['nginx'] = self.spawn(nginx, '-e', self.run + '/nginx.err', '-c', self.run + '/nginx.conf', '-g', 'daemon off;')
        haproxy = shutil.which('haproxy', path=os.environ['PATH'] + ':/usr/sbin')
        if haproxy:
            targets['haproxy'] = self.spawn(haproxy, '-f', HERE + '/haproxy.cfg')
        for name in self.hubs:
            os.makedirs(f'{self.run}/{name}')
            with open(f'{self.run}/{name}/hub.yaml', 'w') as config:
                config.write(f'host: 127.0.0.1\nport: {PORTS[name]}\nmodel_starting_port: {PORTS[name] + 10}\n'
                             f'log_path: {self.run}/{name}/logs\nworker_command: {HERE}/worker\n'
                             'models:\n  - name: mock\n    model_path: mock\n    default: true\n    jit_enabled: false\n')
            targets[name] = self.start_hub(name)
        for name in targets:
            until_answered(name)
        return targets

    def start_hub(self, name):
        return self.spawn(self.hubs[name], '--config', f'{self.run}/{name}/hub.yaml', 'serve')

    def restart_hubs(self, targets):
        """Heaps stay large after load: what is measured for memory begins with a new process."""
        for name in self.hubs:
            self.stop_hub(targets[name])
            targets[name] = self.start_hub(name)
            until_answered(name)

    def stop_hub(self, pid):
        process = next(p for p in self.started if p.pid == pid)
        process.terminate()
        process.wait(30)

    def start_up(self, name, targets):
        """Start to first healthy answer, in ms, and the memory two seconds later, in MiB."""
        self.stop_hub(targets[name])
        began = time.monotonic()
        targets[name] = self.start_hub(name)
        while not healthy(name):
            time.sleep(0.001)
        took = (time.monotonic() - began) * 1000
        time.sleep(2)
        return took, memory_kb(targets[name]) / 1024

    def end(self):
        for process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
        shutil.rmtree(self.run, ignore_errors=True)


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
    try:
        connection.request(method, path, body=body, headers={'content-type': 'application/json'})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def healthy(name):
    return ask(PORTS[name], 'GET', '/health') == 200


def until_answered(name):
    deadline = time.monotonic() + 60
    while ask(PORTS[name], 'POST', '/v1/chat/completions', '{"model":"mock","messages":[]}') != 200:
        if time.monotonic() > deadline:
            sys.exit(f'{name} does not answer on port {PORTS[name]}')
        time.sleep(0.05)


def memory_kb(pid):
    for line in open(f'/proc/{pid}/status'):
        if line.startswith('VmRSS:'):
            return int(line.split()[1])
    return 0


def own_processes(pid):
    """The target's process and its descendants, without the mock workers."""
    found, todo = [pid], [pid]
    while todo:
        for thread in os.listdir(f'/proc/{todo[0]}/task'):
            for child in open(f'/proc/{todo[0]}/task/{thread}/children').read().split():
                if 'mock-worker' not in open(f'/proc/{child}/cmdline').read():
                    found.append(int(child))
                    todo.append(int(child))
        todo.pop(0)
    return found


def measure(name, workload, pid, *more):
    command = [CLIENT] + WORKLOADS[workload] + ['--url', f'http://127.0.0.1:{PORTS[name]}', '--model', 'mock', '--label', name,
                                                '--pids', ','.join(map(str, own_processes(pid))), *more]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout)


def value(row, path):
    for key in path.split('.'):
        row = row[key]
    return row / 1024 if path.endswith('_kb') else row


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def turned(names, turn):
    """Slow drift of the machine falls on all alike: every round takes them in another order."""
    names = list(names)
    return names[turn % len(names):] + names[:turn % len(names)]


def measure_doors(rounds, pid):
    """The doors of the hub in interleaved rounds, and what the translation of an event costs; and what is exceeded."""
    found, missed = [], []
    for turn in range(rounds):
        measured = {door: measure('hub', 'translated', pid, '--path', DOORS[door]) for door in turned(DOORS, turn)}
        found.append({door: measured[door] for door in DOORS})
    plain = next(iter(DOORS))
    print(f'\ntranslated: medians of {rounds} rounds')
    print(''.ljust(22) + ''.join(head.rjust(11) for head in ('us cpu/ev', 'more', 'ratio', 'delay p50', 'delay p99', 'errors')))
    for door in DOORS:
        of = lambda path, door=door: [value(r[door], path) for r in found]
        more = [value(r[door], 'cpu_us_per_event') - value(r[plain], 'cpu_us_per_event') for r in found]
        ratio = [value(r[door], 'cpu_us_per_event') / value(r[plain], 'cpu_us_per_event') for r in found]
        print(door.ljust(22) + f'{median(of("cpu_us_per_event")):11.2f}{median(more):11.2f}{median(ratio):11.2f}'
              f'{median(of("oneway.p50")):11.1f}{median(of("oneway.p99")):11.1f}{max(of("errors")):11.0f}')
        delay = median([value(r[door], 'oneway.p50') / value(r[plain], 'oneway.p50') for r in found])
        for what, exceeds, most in (('us cpu/ev more', median(more), MOST_MORE), ('delay p50, ratio', delay, MOST_DELAY)):
            if exceeds > most:
                missed.append(f'{door}: {what}: {exceeds:.2f}, at most {most}')
    return found, missed


def report(workload, rounds):
    columns = COLUMNS[next(iter(rounds[0].values()))['mode']]
    print(f'\n{workload}: medians of {len(rounds)} rounds')
    print(''.ljust(22) + ''.join(head.rjust(11) for head, _ in columns))
    for name in rounds[0]:
        cells = (median([value(r[name], path) for r in rounds]) for _, path in columns)
        print(name.ljust(22) + ''.join((f'{cell:.4f}' if head == 'cpu s/1k' else f'{cell:.1f}').rjust(11) for cell, (head, _) in zip(cells, columns)))
    for base in ('before', 'nginx', 'direct'):
        for name in rounds[0]:
            if base not in rounds[0] or name in (base, 'direct') or (base == 'before' and name != 'hub'):
                continue
            ratios = ([value(r[name], path) / value(r[base], path) for r in rounds if value(r[base], path)] for _, path in columns)
            print(f'  {name} / {base}'.ljust(22) + ''.join((f'{median(q):.2f}' if q else '-').rjust(11) for q in ratios))


def keep(path, workload, rounds):
    """Writes every result of a workload, if that is asked for."""
    if path:
        with open(path, 'a') as out:
            for turn, measured in enumerate(rounds):
                out.writelines(json.dumps({'workload': workload, 'round': turn, 'of': name, **row}) + '\n' for name, row in measured.items())


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--rounds', type=int, default=15)
    arguments.add_argument('--workloads', default='a,b,c1,c8,c1_last,c8_last,d200,translated,idle,start')
    arguments.add_argument('--hub', default=ROOT + '/target/dist/mlx-openai-server-hub')
    arguments.add_argument('--before', help='an earlier build, to be measured in the same rounds')
    arguments.add_argument('--out', help='also write every result there, a JSON object per line')
    given = arguments.parse_args()
    subprocess.run(['cargo', 'build', '--release', '--quiet'], cwd=HERE, check=True)
    missed = []
    bench = Bench(os.path.abspath(given.hub), given.before and os.path.abspath(given.before))
    try:
        targets = bench.targets()
        for workload in given.workloads.split(','):
            if workload == 'start':
                runs = [{name: bench.start_up(name, targets) for name in bench.hubs} for _ in range(given.rounds)]
                for name in bench.hubs:
                    print(f'\nstart of {name}: first healthy answer after {median([r[name][0] for r in runs]):.1f} ms, '
                          f'{median([r[name][1] for r in runs]):.1f} MiB resident when idle (medians of {len(runs)})')
                continue
            if workload == 'translated':
                rounds, exceeded = measure_doors(given.rounds, targets['hub'])
                missed += exceeded
                keep(given.out, workload, rounds)
                continue
            if workload[0] in 'ci':
                bench.restart_hubs(targets)
            rounds = []
            for turn in range(given.rounds):
                measured = {name: measure(name, workload, targets[name]) for name in turned(targets, turn)}
                rounds.append({name: measured[name] for name in targets})
            keep(given.out, workload, rounds)
            report(workload, rounds)
            sys.stdout.flush()
    finally:
        bench.end()
    for line in missed:
        print(f'exceeded: {line}')
    sys.exit(1 if missed else 0)


main()
