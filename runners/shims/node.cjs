'use strict';
// Runs one handler for VoltRun: reads the request from descriptor 3 and writes one answer to descriptor 4. The answer is
// two lines, "<token> <kind>" and a JSON body; see answer.go. What the handler prints is numbered; see printed.go.
//
// What is needed after the handler's code was loaded is taken out of shared objects before, so that a handler that
// patches fs, JSON or a global cannot break its own answer by accident.
const { readSync, writeSync, readFileSync } = require('node:fs');
const { isNativeError, isGeneratorObject } = require('node:util').types;
const { pathToFileURL } = require('node:url');
const { compileFunction } = require('node:vm');
const { Date, Error, Math, Object, Promise, String, SyntaxError, process } = globalThis;
const { parse, stringify } = JSON;
const { alloc, byteLength, concat, from: bytesOf } = Buffer;
const { wait } = Atomics;
const { hasOwn } = Object;

const REQUEST = 3;
const ANSWER = 4;
const MAX_PRINT = 4000; // with its head, it fits into what a pipe takes in one piece

const request = parse(readLine(REQUEST));
const directory = request.file.slice(0, request.file.lastIndexOf('/') + 1);
const never = new Int32Array(new SharedArrayBuffer(4));
let printed = 0;
let answered = false;

printTo('stdout', 1, 5);
printTo('stderr', 2, 6);

process.on('uncaughtException', (thrown) => fail('uncaughtException', thrown));
process.on('unhandledRejection', (thrown) => fail('unhandledRejection', thrown));
process.on('beforeExit', () => answer('pending', 'null'));
process.on('exit', (code) => answer('exit', String(code)));

run().then(
  (value) => answer(...encode(value)),
  (thrown) => answer(...describe(thrown)),
);

// printTo makes process.stdout or process.stderr print at once: nothing is lost when the process crashes. The stream is
// made when it is first used, which takes a while, and is otherwise as Node's own for a pipe: it cannot be closed, and a
// child process that is given it gets the descriptor.
function printTo(name, descriptor, pipe) {
  const { get, ...property } = Object.getOwnPropertyDescriptor(process, name);
  let stream;
  function make() {
    const { Writable } = require('node:stream');
    stream = new Writable({
      decodeStrings: false,
      write(text, encoding, done) {
        print(pipe, text, encoding);
        done();
      },
      destroy(error, done) {
        done(error);
        stream._undestroy();
      },
    });
    return Object.assign(stream, { fd: descriptor, _type: 'pipe', _isStdio: true });
  }
  Object.defineProperty(process, name, { ...property, get: () => stream ?? make() });
}

// print is quick with short strings, which is what nearly everybody prints.
function print(pipe, text, encoding) {
  if (typeof text === 'string' && encoding === 'utf8' && text.length * 3 <= MAX_PRINT) {
    return writeWhole(pipe, head(byteLength(text)) + text);
  }
  const bytes = bytesOf(text, encoding);
  for (let at = 0; at < bytes.length; at += MAX_PRINT) {
    const piece = bytes.subarray(at, at + MAX_PRINT);
    writeWhole(pipe, concat([bytesOf(head(piece.length)), piece]));
  }
}

function head(length) {
  return `\0${request.token} ${printed} ${length}\n`;
}

// writeWhole writes in one piece: a pipe takes it whole or not at all, and does not mix it with what others write.
function writeWhole(pipe, data) {
  for (;;) {
    try {
      writeSync(pipe, data);
      printed++;
      return;
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      wait(never, 0, 0, 1); // a child process made the pipe not block, and it is full
    }
  }
}

async function run() {
  const handler = await load();
  let called = false;
  let callback;
  const calledBack = new Promise((resolve, reject) => {
    callback = (error, value) => {
      called = true;
      if (error === null || error === undefined) resolve(value);
      else reject(error);
    };
  });
  const returned = handler(request.input, context(), callback);
  if (typeof returned?.then === 'function') return Promise.race([returned, calledBack]);
  if (called || (returned === undefined && handler.length >= 3)) return calledBack;
  return returned;
}

async function load() {
  const exported = await loadCode(request.file, request.module_file);
  const name = request.export;
  const handler = own(exported, name) ?? own(exported?.default, name);
  if (typeof handler === 'function') return handler;
  throw new HandlerNotFound(missing(exported, handler));
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
  const { entry_point: entryPoint, export: name } = request;
  if (found !== undefined && found !== null) {
    return `The entry point ${entryPoint} names no function: what is exported as "${name}" is a ${typeof found}.`;
  }
  const names = Object.keys(Object(exported)).filter((key) => key !== 'default');
  const have = names.length > 0 ? `it exports ${names.join(', ')}` : 'it exports nothing';
  return `The entry point ${entryPoint} was not found: the code does not export "${name}", ${have}.`;
}

function context() {
  const { execution_id, function_name, function_version, memory_mb, deadline_ms } = request.context;
  return {
    awsRequestId: execution_id,
    functionName: function_name,
    functionVersion: function_version,
    memoryLimitInMB: memory_mb,
    getRemainingTimeInMillis: () => Math.max(0, deadline_ms - Date.now()),
  };
}

function encode(value) {
  if (value === undefined) return ['output', 'null'];
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
  if (json !== undefined) return ['output', json];
  return ['error', stringify({ type: 'OutputInvalid', message: `What the handler returned is not a JSON value: ${reason}.`, stack: '' })];
}

function describe(thrown) {
  try {
    return describeOf(thrown);
  } catch { // a getter of the error's own, or a proxy
    return ['error', stringify({ type: 'Error', message: 'What was thrown cannot be shown: to look at it throws an error too.', stack: '' })];
  }
}

function describeOf(thrown) {
  if (thrown instanceof HandlerNotFound) return ['error', stringify({ type: 'HandlerNotFound', message: thrown.message, stack: '' })];
  if (!isNativeError(thrown) && !(thrown instanceof Error)) {
    return ['error', stringify({ type: 'Error', message: textOf(thrown), stack: '' })];
  }
  if (thrown.message === 'Array buffer allocation failed') return ['memory', 'null'];
  return ['error', stringify({ type: className(thrown), message: userLines(thrown.message), stack: place(thrown) + userLines(thrown.stack) })];
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
  const check = require('node:child_process').spawnSync(process.execPath, ['--check', request.module_file], { encoding: 'utf8' });
  const [excerpt] = (check.stderr ?? '').split('\n\n');
  return excerpt.includes(directory) ? `${excerpt}\n\n` : '';
}

// fail ends the run for something that was thrown outside of the handler's own promise, unless the handler listens
// for it itself.
function fail(event, thrown) {
  if (process.listenerCount(event) === 1) answer(...describe(thrown));
}

// answer writes the one answer and then stands still: VoltRun reads the peak memory of the living process and kills it.
function answer(kind, json) {
  if (answered) return;
  answered = true;
  const bytes = bytesOf(`${request.token} ${kind}\n${json}\n`);
  for (let at = 0; at < bytes.length; ) at += writeSync(ANSWER, bytes, at);
  readSync(REQUEST, alloc(1));
}

function readLine(descriptor) {
  const chunks = [];
  for (;;) {
    const chunk = alloc(1 << 16);
    const bytes = chunk.subarray(0, readSync(descriptor, chunk));
    chunks.push(bytes);
    if (bytes.length === 0 || bytes.at(-1) === 10) return concat(chunks).toString();
  }
}
