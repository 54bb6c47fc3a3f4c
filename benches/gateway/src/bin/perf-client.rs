//! Load and timing client for OpenAI-shaped HTTP proxies.
//!
//!   perf-client lat    --url U --model M [--conns C] [--secs S | --count N] [--body-bytes B] [--model-last true]
//!   perf-client stream --url U --model M [--conns C] [--repeat R] [--chunks N] [--interval-us I] [--ramp-ms T]
//!
//! common: [--pids P,P,..] [--path /v1/chat/completions] [--label L] [--warmup N] [--header "K: V"]
//!
//! One line of JSON on stdout per run. All times are microseconds. Over the run it also
//! reads, for every pid given: CPU seconds (utime+stime of the process, all threads), peak
//! RSS (VmHWM, reset at the start through clear_refs) and RSS sampled every 50 ms.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::Request;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    Arc,
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

#[derive(Clone)]
struct Cfg {
    mode: String,
    host: String,
    model: String,
    path: String,
    label: String,
    conns: usize,
    secs: f64,
    count: u64,
    warmup: u64,
    body_bytes: usize,
    model_last: bool,
    repeat: usize,
    chunks: u64,
    interval_us: u64,
    ramp_ms: u64,
    pids: Vec<u32>,
    headers: Vec<(String, String)>,
}

fn parse_args() -> Cfg {
    let mut c = Cfg {
        mode: String::new(),
        host: String::new(),
        model: "mock".into(),
        path: "/v1/chat/completions".into(),
        label: String::new(),
        conns: 1,
        secs: 5.0,
        count: 0,
        warmup: 20,
        body_bytes: 300,
        model_last: false,
        repeat: 1,
        chunks: 200,
        interval_us: 5000,
        ramp_ms: 0,
        pids: vec![],
        headers: vec![],
    };
    let mut it = std::env::args().skip(1);
    c.mode = it.next().expect("mode: lat | stream");
    while let Some(k) = it.next() {
        let v = it.next().unwrap_or_default();
        match k.as_str() {
            "--url" => c.host = v.trim_start_matches("http://").trim_end_matches('/').to_string(),
            "--model" => c.model = v,
            "--path" => c.path = v,
            "--label" => c.label = v,
            "--conns" => c.conns = v.parse().unwrap(),
            "--secs" => c.secs = v.parse().unwrap(),
            "--count" => c.count = v.parse().unwrap(),
            "--warmup" => c.warmup = v.parse().unwrap(),
            "--body-bytes" => c.body_bytes = v.parse().unwrap(),
            "--model-last" => c.model_last = v.parse().unwrap(),
            "--repeat" => c.repeat = v.parse().unwrap(),
            "--chunks" => c.chunks = v.parse().unwrap(),
            "--interval-us" => c.interval_us = v.parse().unwrap(),
            "--ramp-ms" => c.ramp_ms = v.parse().unwrap(),
            "--pids" => c.pids = v.split(',').filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect(),
            "--header" => {
                let (a, b) = v.split_once(':').expect("--header 'K: V'");
                c.headers.push((a.trim().into(), b.trim().into()));
            }
            other => panic!("unknown argument {other}"),
        }
    }
    c
}

/// The member that has the conversation, which is `input` for Responses.
fn messages_of(path: &str) -> &'static str {
    if path.ends_with("/responses") { "input" } else { "messages" }
}

/// A chat body of about `n` bytes, which Messages and Ollama take too, and Responses with its
/// `input`. Past 2 KiB it is a base64 image in the content, with the model named first, or
/// last; below that it is plain text.
fn make_body(c: &Cfg, stream: bool) -> Bytes {
    let model = format!("\"model\":\"{}\"", c.model);
    let (first, last) = if c.model_last { (String::new(), format!(",{model}")) } else { (format!("{model},"), String::new()) };
    let mut s = format!("{{{first}");
    let messages = messages_of(&c.path);
    let mut text = String::new();
    if stream {
        s += "\"stream\":true,";
        text = format!("mock_chunks={} mock_interval_us={} ", c.chunks, c.interval_us);
    }
    let n = c.body_bytes;
    if n > 2048 {
        s += &format!("\"{messages}\":");
        s += "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"what is this\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,";
        let end = format!("\"}}}}]}}]{last}}}");
        let alpha = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut x: u64 = 0x9E3779B97F4A7C15;
        let left = n.saturating_sub(s.len() + end.len());
        let mut b = String::with_capacity(left);
        for _ in 0..left {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            b.push(alpha[(x & 63) as usize] as char);
        }
        s += &b;
        s += &end;
    } else {
        s += &format!("\"temperature\":0.7,\"max_tokens\":64,\"{messages}\":");
        s += "[{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"},{\"role\":\"user\",\"content\":\"";
        s += &text;
        let end = format!("\"}}]{last}}}");
        let left = n.saturating_sub(s.len() + end.len()).max(5);
        s += &"lorem ipsum dolor sit amet ".repeat(left / 27 + 1)[..left];
        s += &end;
    }
    Bytes::from(s)
}

type Conn = SendRequest<Full<Bytes>>;

async fn connect(c: &Cfg) -> Result<Conn, String> {
    let s = tokio::net::TcpStream::connect(&c.host).await.map_err(|e| format!("connect: {e}"))?;
    let _ = s.set_nodelay(true);
    let (send, conn) = hyper::client::conn::http1::handshake(TokioIo::new(s))
        .await
        .map_err(|e| format!("handshake: {e}"))?;
    tokio::task::spawn_local(async move {
        let _ = conn.await;
    });
    Ok(send)
}

fn request(c: &Cfg, body: Bytes) -> Request<Full<Bytes>> {
    let mut r = Request::builder()
        .method("POST")
        .uri(&c.path)
        .header("host", &c.host)
        .header("content-type", "application/json")
        .header("accept", "*/*")
        .header("user-agent", "perf-client");
    for (k, v) in &c.headers {
        r = r.header(k, v);
    }
    r.body(Full::new(body)).unwrap()
}

fn pct(sorted: &[u32], p: f64) -> f64 {
    if sorted.is_empty() {
        return -1.0;
    }
    let i = ((sorted.len() as f64 - 1.0) * p).round() as usize;
    sorted[i] as f64
}

fn dist(v: &mut [u32]) -> String {
    v.sort_unstable();
    let mean = if v.is_empty() { -1.0 } else { v.iter().map(|x| *x as f64).sum::<f64>() / v.len() as f64 };
    format!(
        "{{\"n\":{},\"mean\":{:.1},\"p50\":{:.0},\"p90\":{:.0},\"p99\":{:.0},\"p999\":{:.0},\"max\":{:.0}}}",
        v.len(), mean, pct(v, 0.5), pct(v, 0.9), pct(v, 0.99), pct(v, 0.999), pct(v, 1.0)
    )
}

/// CPU seconds of the processes. The scheduler's per-thread counters are exact to the
/// nanosecond but lose threads that have ended; utime+stime has whole ticks but loses none.
fn cpu_secs(pids: &[u32]) -> f64 {
    let exact: f64 = pids
        .iter()
        .flat_map(|p| std::fs::read_dir(format!("/proc/{p}/task")).into_iter().flatten().flatten())
        .filter_map(|t| {
            let s = std::fs::read_to_string(t.path().join("schedstat")).ok()?;
            Some(s.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
        })
        .sum();
    let ticks = cpu_ticks_secs(pids);
    let slack = 0.02 * pids.len() as f64;
    if exact + slack >= ticks {
        exact
    } else {
        ticks
    }
}

fn cpu_ticks_secs(pids: &[u32]) -> f64 {
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    pids.iter()
        .filter_map(|p| {
            let s = std::fs::read_to_string(format!("/proc/{p}/stat")).ok()?;
            let rest = s.rsplit_once(')')?.1;
            let f: Vec<&str> = rest.split_whitespace().collect();
            Some((f[11].parse::<f64>().ok()? + f[12].parse::<f64>().ok()?) / hz)
        })
        .sum()
}

fn status_kb(pids: &[u32], key: &str) -> u64 {
    pids.iter()
        .filter_map(|p| {
            let s = std::fs::read_to_string(format!("/proc/{p}/status")).ok()?;
            s.lines().find(|l| l.starts_with(key))?.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum()
}

fn reset_hwm(pids: &[u32]) {
    for p in pids {
        let _ = std::fs::write(format!("/proc/{p}/clear_refs"), "5");
    }
}

#[derive(Default)]
struct Out {
    lat: Vec<u32>,
    ttft: Vec<u32>,
    oneway: Vec<u32>,
    jitter: Vec<u32>,
    gaps: Vec<u32>,
    events: u64,
    statuses: BTreeMap<String, u64>,
}

async fn lat_task(c: Rc<Cfg>, body: Bytes, out: Rc<RefCell<Out>>, stop: Instant, left: Rc<RefCell<i64>>) {
    let mut conn: Option<Conn> = None;
    let mut local = Vec::with_capacity(1 << 14);
    let mut st: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        if c.count > 0 {
            let mut l = left.borrow_mut();
            if *l <= 0 {
                break;
            }
            *l -= 1;
        } else if Instant::now() >= stop {
            break;
        }
        if conn.is_none() {
            match connect(&c).await {
                Ok(x) => conn = Some(x),
                Err(e) => {
                    *st.entry(e).or_default() += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            }
        }
        let s = conn.as_mut().unwrap();
        let t = Instant::now();
        let r = async {
            s.ready().await?;
            let resp = s.send_request(request(&c, body.clone())).await?;
            let code = resp.status().as_u16();
            let mut b = resp.into_body();
            while let Some(f) = b.frame().await {
                f?;
            }
            Ok::<u16, hyper::Error>(code)
        }
        .await;
        let us = t.elapsed().as_micros() as u32;
        match r {
            Ok(200) => local.push(us),
            Ok(code) => *st.entry(code.to_string()).or_default() += 1,
            Err(e) => {
                *st.entry(format!("err: {e}")).or_default() += 1;
                conn = None;
            }
        }
        if conn.as_ref().is_some_and(|s| s.is_closed()) {
            conn = None;
        }
    }
    let mut o = out.borrow_mut();
    o.lat.extend(local);
    for (k, v) in st {
        *o.statuses.entry(k).or_default() += v;
    }
}

fn num_after(line: &[u8], key: &[u8]) -> Option<u64> {
    let p = line.windows(key.len()).position(|w| w == key)? + key.len();
    let mut n = 0u64;
    let mut any = false;
    for b in &line[p..] {
        if b.is_ascii_digit() {
            n = n * 10 + (*b - b'0') as u64;
            any = true;
        } else {
            break;
        }
    }
    any.then_some(n)
}

/// The moment of emission of the event in that line, if it is a piece of the answer's text.
fn sent_at(line: &[u8]) -> Option<u64> {
    // Responses repeats the whole text in events at the end.
    let repeats = line.windows(17).any(|w| w == b"\"type\":\"response.") && !line.windows(7).any(|w| w == b".delta\"");
    if repeats { None } else { num_after(line, b"@") }
}

/// True for the last event of a stream, in any of the APIs.
fn is_last(line: &[u8]) -> bool {
    let has = |part: &[u8]| line.windows(part.len()).any(|w| w == part);
    line.starts_with(b"data: [DONE]")
        || has(b"\"type\":\"message_stop\"")
        || has(b"\"type\":\"response.completed\"")
        || has(b"\"done\":true")
}

async fn stream_task(c: Rc<Cfg>, body: Bytes, out: Rc<RefCell<Out>>, delay: Duration) {
    tokio::time::sleep(delay).await;
    let mut conn: Option<Conn> = None;
    for _ in 0..c.repeat {
        if conn.is_none() {
            match connect(&c).await {
                Ok(x) => conn = Some(x),
                Err(e) => {
                    *out.borrow_mut().statuses.entry(e).or_default() += 1;
                    continue;
                }
            }
        }
        let s = conn.as_mut().unwrap();
        let t = Instant::now();
        let mut ttft: Option<u32> = None;
        let mut last: Option<Instant> = None;
        let mut ow: Vec<u32> = Vec::with_capacity(c.chunks as usize);
        let mut gaps: Vec<u32> = Vec::with_capacity(c.chunks as usize);
        let mut pend: Vec<u8> = Vec::new();
        let mut done = false;
        let r = async {
            s.ready().await.map_err(|e| format!("err: {e}"))?;
            let resp = s
                .send_request(request(&c, body.clone()))
                .await
                .map_err(|e| format!("err: {e}"))?;
            let code = resp.status().as_u16();
            let mut b = resp.into_body();
            while let Some(f) = b.frame().await {
                let f = f.map_err(|e| format!("err: {e}"))?;
                let Some(d) = f.data_ref() else { continue };
                let now_ns = unix_ns();
                let now = Instant::now();
                pend.extend_from_slice(d);
                let mut from = 0;
                while let Some(p) = pend[from..].iter().position(|b| *b == b'\n') {
                    let line = &pend[from..from + p];
                    if let Some(sent) = sent_at(line) {
                        if ttft.is_none() {
                            ttft = Some((now - t).as_micros() as u32);
                        }
                        ow.push((now_ns.saturating_sub(sent) / 1000) as u32);
                        if let Some(l) = last {
                            gaps.push((now - l).as_micros() as u32);
                        }
                        last = Some(now);
                    }
                    done = done || is_last(line);
                    from += p + 1;
                }
                pend.drain(..from);
            }
            Ok::<u16, String>(code)
        }
        .await;
        let mut o = out.borrow_mut();
        match r {
            Ok(200) if done => {
                o.lat.push(t.elapsed().as_micros() as u32);
                if let Some(x) = ttft {
                    o.ttft.push(x);
                }
            }
            Ok(200) => *o.statuses.entry("200 without an end".into()).or_default() += 1,
            Ok(x) => *o.statuses.entry(x.to_string()).or_default() += 1,
            Err(e) => {
                *o.statuses.entry(e).or_default() += 1;
                conn = None;
            }
        }
        o.events += ow.len() as u64;
        o.oneway.extend(ow);
        for g in gaps {
            o.jitter.push((g as i64 - c.interval_us as i64).unsigned_abs() as u32);
            o.gaps.push(g);
        }
    }
}

fn main() {
    let c = parse_args();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let streaming = c.mode == "stream";
    let body = make_body(&c, streaming);
    let rc = Rc::new(c.clone());
    let out = Rc::new(RefCell::new(Out::default()));

    // Warm-up: a few plain requests on each connection's worth of sockets, uncounted.
    if c.warmup > 0 && !streaming {
        let mut w = c.clone();
        w.count = c.warmup.max(c.conns as u64);
        let w = Rc::new(w);
        let o = Rc::new(RefCell::new(Out::default()));
        let left = Rc::new(RefCell::new(w.count as i64));
        let b = body.clone();
        local.block_on(&rt, async move {
            let hs: Vec<_> = (0..w.conns)
                .map(|_| tokio::task::spawn_local(lat_task(w.clone(), b.clone(), o.clone(), Instant::now(), left.clone())))
                .collect();
            for h in hs {
                let _ = h.await;
            }
        });
    }

    reset_hwm(&c.pids);
    let rss0 = status_kb(&c.pids, "VmRSS:");
    let stop_flag = Arc::new(AtomicBool::new(false));
    let peak = Arc::new(AtomicU64::new(rss0));
    let samples = Arc::new(std::sync::Mutex::new(Vec::<u64>::new()));
    let sampler = {
        let (f, p, pids, s) = (stop_flag.clone(), peak.clone(), c.pids.clone(), samples.clone());
        std::thread::spawn(move || {
            while !f.load(Relaxed) {
                if !pids.is_empty() {
                    let r = status_kb(&pids, "VmRSS:");
                    p.fetch_max(r, Relaxed);
                    s.lock().unwrap().push(r);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    };
    let cpu0 = cpu_secs(&c.pids);
    let me = [std::process::id()];
    let my0 = cpu_secs(&me);
    let t0 = Instant::now();
    {
        let out = out.clone();
        local.block_on(&rt, async move {
            let stop = Instant::now() + Duration::from_secs_f64(rc.secs);
            let left = Rc::new(RefCell::new(rc.count as i64));
            let hs: Vec<_> = (0..rc.conns)
                .map(|i| {
                    if streaming {
                        let d = Duration::from_micros(rc.ramp_ms * 1000 * i as u64 / rc.conns.max(1) as u64);
                        tokio::task::spawn_local(stream_task(rc.clone(), body.clone(), out.clone(), d))
                    } else {
                        tokio::task::spawn_local(lat_task(rc.clone(), body.clone(), out.clone(), stop, left.clone()))
                    }
                })
                .collect();
            for h in hs {
                let _ = h.await;
            }
        });
    }
    let wall = t0.elapsed().as_secs_f64();
    let cpu = cpu_secs(&c.pids) - cpu0;
    let my = cpu_secs(&me) - my0;
    stop_flag.store(true, Relaxed);
    let _ = sampler.join();
    let hwm = status_kb(&c.pids, "VmHWM:");
    let rss_end = status_kb(&c.pids, "VmRSS:");
    let mut sm = samples.lock().unwrap().clone();
    sm.sort_unstable();
    let rss_med = sm.get(sm.len() / 2).copied().unwrap_or(0);

    let mut o = out.borrow_mut();
    let n = o.lat.len() as f64;
    let errs: u64 = o.statuses.values().sum();
    let st: Vec<String> = o
        .statuses
        .iter()
        .map(|(k, v)| format!("\"{}\":{}", k.replace('"', "'"), v))
        .collect();
    let st = st.join(",");
    let cpu_per_k = if n > 0.0 { cpu / n * 1000.0 } else { -1.0 };
    let mut extra = String::new();
    if streaming {
        let ev = o.events;
        extra = format!(
            ",\"events\":{},\"events_per_s\":{:.0},\"cpu_us_per_event\":{:.2},\"ttft\":{},\"oneway\":{},\"jitter\":{},\"gap\":{}",
            ev,
            ev as f64 / wall,
            if ev > 0 { cpu * 1e6 / ev as f64 } else { -1.0 },
            dist(&mut o.ttft),
            dist(&mut o.oneway),
            dist(&mut o.jitter),
            dist(&mut o.gaps)
        );
    }
    println!(
        "{{\"label\":\"{}\",\"mode\":\"{}\",\"conns\":{},\"body_bytes\":{},\"wall_s\":{:.3},\"ok\":{},\"errors\":{},\"error_kinds\":{{{}}},\"rps\":{:.1},\"lat\":{},\"proxy_cpu_s\":{:.3},\"proxy_cpu_s_per_1k\":{:.4},\"proxy_cores\":{:.2},\"client_cpu_s\":{:.2},\"rss_start_kb\":{},\"rss_median_kb\":{},\"rss_peak_kb\":{},\"rss_hwm_kb\":{},\"rss_end_kb\":{}{}}}",
        c.label, c.mode, c.conns, c.body_bytes, wall, o.lat.len(), errs, st, n / wall,
        dist(&mut o.lat), cpu, cpu_per_k, cpu / wall, my, rss0, rss_med, peak.load(Relaxed), hwm, rss_end, extra
    );
}
