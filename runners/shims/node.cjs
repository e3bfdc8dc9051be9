'use strict';
// Runs the invocations of one function for VoltRun, one after the other: reads frames from descriptor 3 and writes frames
// to descriptor 4; see frame.go. Between invocations it waits in a blocking read, so nothing of the function runs then.
//
// What is needed after the handler's code was loaded is taken out of shared objects before, so that a handler that
// patches fs, JSON or a global cannot break its own answer by accident.
const { readSync, writeSync, readFileSync } = require('node:fs');
const { isNativeError, isGeneratorObject } = require('node:util').types;
const { pathToFileURL } = require('node:url');
const { compileFunction } = require('node:vm');
const { Date, Error, Math, Object, Promise, Set, String, SyntaxError, process, setImmediate } = globalThis;
const { parse, stringify } = JSON;
const { allocUnsafe, byteLength, from: bytesOf } = Buffer;
const { wait } = Atomics;
const { hasOwn } = Object;
const { apply } = Reflect;
const activeResources = process.getActiveResourcesInfo.bind(process);
const listenerCount = process.listenerCount.bind(process);
const exitAtOnce = process.reallyExit.bind(process);

const REQUEST = 3;
const ANSWER = 4;
const HEAD = 21; // four bytes of length, one of kind, sixteen of token
const [INIT, READY, STDOUT, STDERR] = bytesOf('ir12');
const [OUTPUT, ERROR, EXIT, PENDING, MEMORY] = bytesOf('OEXPM');
const [CLEAN, UNCLEAN] = bytesOf('+-');
const PIECE = 1 << 15; // bytes of a log frame, at most
const MAX_TEXT = 1 << 16; // characters of an error, at most

const scratch = allocUnsafe(HEAD + PIECE); // the frame that is being written; the token stays in its place
const never = new Int32Array(new SharedArrayBuffer(4));
let inbox = allocUnsafe(1 << 16);
let from = 0; // what stands in the inbox between these two is not used yet
let to = 0;

let init; // what is to be run
let directory; // where its code is
let handler;
let baseline; // what kept the event loop alive after the code was loaded
let running = false; // an invocation
let outcome; // of the running invocation, once its handler has settled
let jobs = 0; // of cryptography and compression that go on, of which the event loop says nothing
const silentTimers = new Set(); // that the function has made so that the event loop does not wait for them
const threads = new Set(); // of the function's own, of which the event loop says nothing either
let threadsAtLoading = 0;
let thenAtLoading; // how promises are waited for; without that, no later invocation could be answered

printTo('stdout', 1, STDOUT);
printTo('stderr', 2, STDERR);
watchSilentTimers();
watchJobs();
process.on('worker', (thread) => {
  threads.add(thread);
  thread.once('exit', () => threads.delete(thread));
});

process.on('uncaughtException', (thrown) => fail('uncaughtException', thrown));
process.on('unhandledRejection', (thrown) => fail('unhandledRejection', thrown));
process.on('beforeExit', () => finish(UNCLEAN, PENDING, 'null'));
process.on('exit', (code) => finish(UNCLEAN, EXIT, String(code)));

if (process.argv[2] === 'stem') preheat();
scratch.fill(0, 0, HEAD);
writeFrame(READY, 0);
serve();

// serve waits for the next invocation and begins it.
function serve() {
  for (;;) {
    receive(4);
    const end = 4 + inbox.readUInt32BE(from);
    receive(end);
    const start = from;
    from += end;
    if (inbox[start + 4] !== INIT) return invoke(start, start + end);
    init = parse(inbox.toString('utf8', start + HEAD, start + end));
    directory = init.file.slice(0, init.file.lastIndexOf('/') + 1);
  }
}

// receive reads until the inbox has n bytes.
function receive(n) {
  if (from + n > inbox.length || from === to) {
    const other = n > inbox.length || inbox.length > 1 << 16 ? allocUnsafe(Math.max(n, 1 << 16)) : inbox;
    inbox.copy(other, 0, from, to);
    [inbox, from, to] = [other, 0, to - from];
  }
  while (to - from < n) {
    const got = patiently(() => readSync(REQUEST, inbox, to, inbox.length - to, null));
    if (got === 0) exitAtOnce(0);
    to += got;
  }
}

// patiently repeats what would block: somebody made the pipe not block.
function patiently(act) {
  for (;;) {
    try {
      return act();
    } catch (error) {
      if (error.code !== 'EAGAIN') return exitAtOnce(1); // the function has closed the descriptor
      wait(never, 0, 0, 1);
    }
  }
}

function invoke(start, end) {
  const headEnd = inbox.indexOf(10, start + HEAD);
  const about = parse(inbox.toString('latin1', start + HEAD, headEnd));
  inbox.copy(scratch, 5, start + 5, start + HEAD);
  running = true;
  outcome = undefined;
  const text = inbox.toString('utf8', headEnd + 1, end);
  const result = handler === undefined
    ? load().then(() => call(parse(text), context(about)))
    : new Promise((resolve) => resolve(call(parse(text), context(about))));
  result.then(
    (value) => settle(...encode(value)),
    (thrown) => settle(...describe(thrown)),
  );
}

function call(input, about) {
  let called = false;
  let callback;
  const calledBack = new Promise((resolve, reject) => {
    callback = (error, value) => {
      called = true;
      if (error === null || error === undefined) resolve(value);
      else reject(error);
    };
  });
  const returned = handler(input, about, callback);
  if (typeof returned?.then === 'function') return Promise.race([returned, calledBack]);
  if (called || (returned === undefined && handler.length >= 3)) return calledBack;
  return returned;
}

function context({ execution_id: id, deadline_ms: deadline }) {
  return {
    awsRequestId: id,
    functionName: init.function_name,
    functionVersion: init.function_version,
    memoryLimitInMB: init.memory_mb,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

// settle lets the event loop turn once, so that what goes wrong right after the handler is told with its own invocation.
function settle(kind, json) {
  outcome = [kind, json];
  setImmediate(() => finish(isClean() ? CLEAN : UNCLEAN, ...outcome) && serve());
}

// finish answers the invocation that runs, if one does, and tells whether another may follow. A process that is not clean
// stands still then, until VoltRun ends it.
function finish(state, kind, json) {
  if (!running) return false;
  running = false;
  writeAnswer(state, kind, json);
  if (state === CLEAN) return true;
  for (;;) receive(to - from + 1);
}

// fail ends the invocation for something that was thrown outside of the handler's own promise, unless the handler listens
// for it itself.
function fail(event, thrown) {
  if (listenerCount(event) === 1) finish(UNCLEAN, ...describe(thrown));
}

// Connections may stay: they are why somebody wants a process to be reused, and what comes over them waits. Everything
// else that the event loop would wait for is work that the handler has left behind.
const MAY_STAY = /^(TCP|TLS|UDP|Pipe|TTY)(Socket|Server)?Wrap$/;

function isClean() {
  if (handler === undefined || jobs > 0 || leavesSilentTimer() || threads.size > threadsAtLoading || Promise.prototype.then !== thenAtLoading) return false;
  const left = activeResources();
  if (left.length === 0) return true;
  const allowed = baseline.slice();
  return left.every((name) => {
    const at = allowed.indexOf(name);
    if (at >= 0) allowed.splice(at, 1);
    return at >= 0 || MAY_STAY.test(name);
  });
}

// watchSilentTimers notes which timers the function unrefs: the event loop says nothing about them. Node's own, as those of
// fetch, are none of the function's work.
function watchSilentTimers() {
  const timer = setTimeout(() => {}, 1);
  clearTimeout(timer);
  const timers = Object.getPrototypeOf(timer);
  const { unref } = timers;
  timers.unref = function () {
    const caller = String(new Error().stack).split('\n')[2] ?? '';
    if (!/\(?node:(?!timers)/.test(caller)) silentTimers.add(this);
    return unref.call(this);
  };
}

// watchJobs counts what Node's threads do for the function. Node has no other way to learn of it than its own bindings.
function watchJobs() {
  const { noDeprecation } = process;
  process.noDeprecation = true;
  const [crypto, zlib] = ['crypto', 'zlib'].map((name) => Object.values(process.binding?.(name) ?? {}));
  process.noDeprecation = noDeprecation;
  const counted = (done) => function (...results) {
    jobs--;
    return apply(done, this, results);
  };
  for (const { prototype } of crypto.filter((each) => typeof each?.prototype?.run === 'function')) {
    const { run } = prototype;
    prototype.run = function () {
      if (typeof this.ondone === 'function') {
        jobs++;
        this.ondone = counted(this.ondone);
      }
      return apply(run, this, []);
    };
  }
  for (const { prototype } of zlib.filter((each) => typeof each?.prototype?.init === 'function')) {
    const { init, write } = prototype;
    prototype.init = function (...settings) {
      return apply(init, this, settings.map((each) => (typeof each === 'function' ? counted(each) : each)));
    };
    prototype.write = function (...pieces) {
      jobs++;
      return apply(write, this, pieces);
    };
  }
}

function leavesSilentTimer() {
  if (silentTimers.size === 0) return false;
  const timers = [...silentTimers];
  silentTimers.clear();
  return timers.some((timer) => !timer._destroyed);
}

async function load() {
  const exported = await loadCode(init.file, init.module_file);
  const found = own(exported, init.export) ?? own(exported?.default, init.export);
  if (typeof found !== 'function') throw new HandlerNotFound(missing(exported, found));
  silentTimers.clear();
  baseline = activeResources();
  threadsAtLoading = threads.size;
  thenAtLoading = Promise.prototype.then;
  handler = found;
}

// own returns what somebody exported under a name, and not what every object has.
function own(exported, name) {
  return exported !== null && exported !== undefined && hasOwn(exported, name) ? exported[name] : undefined;
}

// loadCode tells ES modules from CommonJS the way Node's own detection does: what CommonJS cannot parse only because of
// module syntax is a module. Older Nodes lack that detection for a file without a package.json.
async function loadCode(file, moduleFile) {
  const refusal = parseCommonJS(file);
  if (!/^(Cannot use import statement outside|Unexpected token 'export'|Cannot use 'import\.meta' outside|await is only valid)/.test(refusal)) {
    return require(file);
  }
  try {
    return await import(pathToFileURL(moduleFile));
  } catch (error) {
    const isForgottenAsync = error instanceof SyntaxError && refusal.startsWith('await');
    return isForgottenAsync ? require(file) : Promise.reject(error);
  }
}

// parseCommonJS returns why a file is no CommonJS, or "".
function parseCommonJS(file) {
  try {
    compileFunction(readFileSync(file, 'utf8'), ['exports', 'require', 'module', '__filename', '__dirname'], { filename: file });
    return '';
  } catch (error) {
    return error.message;
  }
}

function HandlerNotFound(message) {
  this.message = message;
}

function missing(exported, found) {
  const { entry_point: entryPoint, export: name } = init;
  if (found !== undefined && found !== null) {
    return `The entry point ${entryPoint} names no function: what is exported as "${name}" is a ${typeof found}.`;
  }
  const names = Object.keys(Object(exported)).filter((key) => key !== 'default');
  const have = names.length > 0 ? `it exports ${names.join(', ')}` : 'it exports nothing';
  return `The entry point ${entryPoint} was not found: the code does not export "${name}", ${have}.`;
}

function encode(value) {
  if (value === undefined) return [OUTPUT, 'null'];
  let json;
  let reason = `a ${typeof value} has no JSON form`;
  if (isGeneratorObject(value)) {
    reason = 'a generator has no JSON form, only what it yields can have one';
  } else {
    try {
      json = stringify(value);
    } catch (error) {
      reason = String(error?.message ?? error).split('\n')[0];
    }
  }
  if (json !== undefined) return [OUTPUT, json];
  return errorAnswer('OutputInvalid', `What the handler returned is not a JSON value: ${reason}.`, '');
}

function errorAnswer(type, message, stack) {
  return [ERROR, stringify({ type, message: message.slice(0, MAX_TEXT), stack: stack.slice(0, MAX_TEXT) })];
}

function describe(thrown) {
  try {
    return describeOf(thrown);
  } catch { // a getter of the error's own, or a proxy
    return errorAnswer('Error', 'What was thrown cannot be shown: to look at it throws an error too.', '');
  }
}

function describeOf(thrown) {
  if (thrown instanceof HandlerNotFound) return errorAnswer('HandlerNotFound', thrown.message, '');
  if (!isNativeError(thrown) && !(thrown instanceof Error)) return errorAnswer('Error', textOf(thrown), '');
  if (thrown.message === 'Array buffer allocation failed') return [MEMORY, 'null'];
  return errorAnswer(className(thrown), userLines(thrown.message), place(thrown) + userLines(thrown.stack));
}

function textOf(thrown) {
  if (typeof thrown === 'string') return thrown;
  try {
    return stringify(thrown) ?? String(thrown);
  } catch {
    return String(thrown);
  }
}

function className(error) {
  const own = error.name && error.name !== 'Error' ? error.name : error.constructor?.name;
  return String(own || 'Error');
}

// userLines takes out what is Node's or VoltRun's: their stack frames, and this file where a list of files names it.
function userLines(text) {
  const foreign = (line) => line.endsWith(__filename) || (/^\s+at /.test(line) && !line.includes(directory));
  return String(text ?? '').split('\n').filter((line) => !foreign(line)).join('\n').trimEnd();
}

// place finds the line of a mistake in an ES module's syntax, which Node tells nobody but the console.
function place(error) {
  if (!(error instanceof SyntaxError) || String(error.stack).includes(directory)) return '';
  const check = require('node:child_process').spawnSync(process.execPath, ['--check', init.module_file], { encoding: 'utf8' });
  const [excerpt] = (check.stderr ?? '').split('\n\n');
  return excerpt.includes(directory) ? `${excerpt}\n\n` : '';
}

// printTo makes process.stdout or process.stderr print at once: nothing is lost when the process crashes. The stream is
// made when it is first used, which takes a while, and is otherwise as Node's own for a pipe: it cannot be closed, and a
// child process that is given it gets the descriptor.
function printTo(name, descriptor, kind) {
  const { get, ...property } = Object.getOwnPropertyDescriptor(process, name);
  let stream;
  function make() {
    const { Writable } = require('node:stream');
    stream = new Writable({
      decodeStrings: false,
      write(text, encoding, done) {
        print(kind, text, encoding);
        done();
      },
      destroy(error, done) {
        done(error);
        stream._undestroy();
      },
    });
    return Object.assign(stream, { end, fd: descriptor, _type: 'pipe', _isStdio: true });
  }
  function end(...rest) {
    const done = typeof rest.at(-1) === 'function' ? rest.pop() : undefined;
    if (rest[0] !== undefined && rest[0] !== null) stream.write(...rest);
    if (done) process.nextTick(done);
    return stream;
  }
  Object.defineProperty(process, name, { ...property, get: () => stream ?? make() });
}

// print is quick with short strings, which is what nearly everybody prints. What is printed while no invocation runs is
// nobody's.
function print(kind, text, encoding) {
  if (!running) return;
  if (typeof text === 'string' && encoding === 'utf8' && text.length * 3 <= PIECE) {
    return writeFrame(kind, scratch.write(text, HEAD));
  }
  const bytes = bytesOf(text, encoding);
  for (let at = 0; at < bytes.length; at += PIECE) {
    writeFrame(kind, bytes.copy(scratch, HEAD, at, at + PIECE));
  }
}

// writeFrame writes the frame whose payload stands in scratch.
function writeFrame(kind, length) {
  scratch.writeUInt32BE(HEAD - 4 + length, 0);
  scratch[4] = kind;
  write(scratch, HEAD + length);
}

function writeAnswer(state, kind, json) {
  scratch[HEAD] = state;
  if (json.length * 3 < PIECE) return writeFrame(kind, 1 + scratch.write(json, HEAD + 1));
  const length = byteLength(json);
  const frame = allocUnsafe(HEAD + 1 + length);
  scratch.copy(frame, 0, 0, HEAD + 1);
  frame.writeUInt32BE(HEAD - 4 + 1 + length, 0);
  frame[4] = kind;
  frame.write(json, HEAD + 1);
  write(frame, frame.length);
}

function write(bytes, end) {
  for (let at = 0; at < end; ) at += patiently(() => writeSync(ANSWER, bytes, at, end - at));
}

// preheat does now what the first invocation would wait for.
function preheat() {
  process.stdout;
  process.stderr;
  compileFunction('exports.handler = async (event) => event', ['exports']);
  pathToFileURL(__filename);
  parse(stringify({ a: [1] }));
  encode({ a: [1] });
  activeResources();
}
