//! Streams whose clients leave at random, at gateways that are killed (invariants 1 to 4).

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use thinpipe_testkit::network::Rng;
use thinpipe_testkit::{Client, Connection, Event, Response, Script, Upstream, rpc};
use tokio::task::JoinSet;

use crate::support::Settings;
use crate::world::{HELD, World, answers};

/// Clients, each with a call that runs all the time.
const CLIENTS: usize = 6;
/// What each call reports before its answer.
const STEPS: usize = 60;
/// A client leaves after so many events at most.
const STAYS: u64 = 4;
/// Steps after which harm is done to one of the gateways, and another takes its place.
const HARMED: [usize; 3] = [15, 31, 47];
/// Where the random numbers begin.
const SEED: u64 = 5;

/// Where the gateways are.
type Places = Arc<Mutex<[String; 3]>>;

/// What is done to gateways meanwhile.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Nothing,
    /// They are killed.
    Kill,
    /// They are asked to end, and have less time than the calls.
    Stop,
}

/// Invariants 1 to 4: clients that leave and resume anywhere get every event once and in order, whatever is killed
/// meanwhile; and no call runs twice.
#[tokio::test]
async fn g4_no_event_is_lost_where_gateways_are_killed() {
    storm("", Harm::Kill).await;
}

/// C22: the same where they are restarted: streams of calls that take longer end with a cursor, and go on elsewhere.
#[tokio::test]
async fn c22_no_event_is_lost_where_gateways_are_restarted() {
    storm("", Harm::Stop).await;
}

/// The same of a server that cannot resume: gateways hold its events.
#[tokio::test]
async fn g4_no_event_is_lost_that_a_gateway_holds() {
    storm(HELD, Harm::Nothing).await;
}

/// 5.9.25: the same where they are killed: what one holds of a call that runs ends with it, which its client is told after
/// all that was said before; the session goes on.
#[tokio::test]
async fn g4_no_event_is_lost_that_a_killed_gateway_held() {
    storm(HELD, Harm::Kill).await;
}

async fn storm(upstream: &str, harm: Harm) {
    let settings = Settings {
        gateway: "limits = { drain = \"300ms\" }",
        upstream,
    };
    let world = World::of(settings, |behaviour| behaviour.event_ids = true).await;
    let mut gateways = world.three().await;
    let places = gateways.each_ref().map(|gateway| gateway.url.clone());
    let places = Arc::new(Mutex::new(places));
    let mut clients = JoinSet::new();
    let mut calls = Vec::new();
    for number in 0..CLIENTS {
        let client = gateways[number % 3].client().await;
        let (call, stream) = Call::start(&world.upstream, &client, number).await;
        calls.push(call);
        let may_end = upstream == HELD && matches!(harm, Harm::Kill);
        let reader = Reader {
            client,
            number,
            places: Arc::clone(&places),
            may_end,
        };
        clients.spawn(reader.read(stream));
    }
    for step in 1..=STEPS {
        for call in &calls {
            call.report(&world.upstream, step);
        }
        if HARMED.contains(&step) {
            let at = step % 3;
            let process = &mut gateways[at].process;
            match harm {
                Harm::Nothing => continue,
                Harm::Kill => process.kill().await,
                Harm::Stop => {
                    process.signal("TERM").await;
                    assert!(process.wait().await.success(), "{:#?}", process.lines());
                }
            }
            gateways[at] = world.gateway().await;
            places.lock().expect("nobody panics with it")[at].clone_from(&gateways[at].url);
        }
    }
    for call in &calls {
        call.answer(&world.upstream);
    }
    let resumes: usize = clients.join_all().await.into_iter().sum();
    if upstream == HELD && matches!(harm, Harm::Kill) {
        assert!(resumes >= CLIENTS, "{resumes}");
        assert_eq!(world.counted("tools/call"), 2 * CLIENTS);
        return;
    }
    let least = CLIENTS * STEPS / usize::try_from(STAYS).expect("it is small");
    assert!(resumes >= least, "{resumes} resumes, at least {least}");
    assert_eq!(world.counted("tools/call"), CLIENTS);
}

/// A call that runs at the server.
struct Call {
    name: String,
    token: String,
    id: String,
}

impl Call {
    async fn start(upstream: &Upstream, client: &Client, number: usize) -> (Self, Response) {
        let name = format!("storm{number}");
        upstream.open_stream(&name, Vec::new());
        upstream.once("tools/call", Script::stream(&name));
        let call = client.post(rpc::call(number, "echo")).send().await;
        let asked = upstream.nth("tools/call", number).await;
        let call_there = Self {
            name,
            token: asked.param("/_meta/progressToken").to_string(),
            id: asked.id_text().expect("it is a request").to_owned(),
        };
        call_there.report(upstream, 0);
        (call_there, call.response().await)
    }

    fn report(&self, upstream: &Upstream, step: usize) {
        let text = rpc::progress(step, STEPS).replace(rpc::PROGRESS_TOKEN, &self.token);
        self.append(upstream, text, step);
    }

    fn answer(&self, upstream: &Upstream) {
        let text = rpc::text_result("done").replace(rpc::REQUEST_ID, &self.id);
        self.append(upstream, text, STEPS + 1);
        upstream.finish(&self.name);
    }

    fn append(&self, upstream: &Upstream, text: String, number: usize) {
        let event = Event::message(text).with_id(format!("{}-{number}", self.name));
        upstream.append(&self.name, event);
    }
}

/// A client that leaves and resumes at random.
struct Reader {
    client: Client,
    number: usize,
    places: Places,
    /// Whether its call may end with its gateway.
    may_end: bool,
}

impl Reader {
    /// Reads a call to its answer. How often it has resumed.
    async fn read(self, mut stream: Response) -> usize {
        let Self {
            client,
            number,
            places,
            may_end,
        } = self;
        let seed = SEED + u64::try_from(number).expect("it is small");
        let mut rng = Rng::new(seed);
        let (mut last, mut next, mut resumes) = (String::new(), 0, 0);
        loop {
            for _ in 0..=rng.below(STAYS) {
                // The end, also the unexpected one of a stream whose gateway was killed.
                let Ok(Some(event)) = stream.try_next_block().await else {
                    break;
                };
                if let Some(id) = &event.id {
                    last.clone_from(id);
                }
                if !event.has_message() {
                    continue;
                }
                let message = event.json();
                if may_end && message.get("error").is_some() {
                    let reason = &message["error"]["data"]["reason"];
                    let said = (&message["id"], reason);
                    assert_eq!(said, (&json!(number), &json!("outcome_unknown")));
                    goes_on(&client, &places, &mut rng).await;
                    return resumes;
                }
                if next <= STEPS {
                    assert_eq!(message["params"]["progress"], next, "{number}: {message}");
                    next += 1;
                    continue;
                }
                assert_eq!(message["id"], number, "{message}");
                assert_eq!(
                    message["result"]["content"],
                    json!([{"type": "text", "text": "done"}])
                );
                return resumes;
            }
            stream.close();
            stream = resume(&client, &last, &places, &mut rng).await;
            resumes += 1;
        }
    }
}

/// The session is usable at any of the gateways that is there.
async fn goes_on(client: &Client, places: &Places, rng: &mut Rng) {
    loop {
        let place = places.lock().expect("nobody panics with it")[rng.index(3)].clone();
        let there = client.at(&place);
        if Connection::try_open(there.address(), None).await.is_ok() {
            return answers(&there, "after all").await;
        }
    }
}

/// The stream at any of the gateways; one that is being killed takes none, or breaks off.
async fn resume(client: &Client, last: &str, places: &Places, rng: &mut Rng) -> Response {
    loop {
        let place = places.lock().expect("nobody panics with it")[rng.index(3)].clone();
        let there = client.at(&place);
        let Ok(connection) = Connection::try_open(there.address(), None).await else {
            continue;
        };
        let asked = there.resume(last).on(connection).send().await;
        let Ok(mut stream) = asked.try_response().await else {
            continue;
        };
        match stream.status {
            200 => return stream,
            // It is about to end.
            503 => continue,
            _ => {}
        }
        let refused: Value = stream.json().await;
        panic!("{} {refused}", stream.status);
    }
}
