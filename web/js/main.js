/** Begins here: the sign-in page without a session, the chats with one. The address names the open room. */

import { Api } from "./api.js";
import { Chat } from "./chat.js";
import { Connection } from "./connection.js";
import { Session } from "./session.js";
import { announce } from "./dom.js";
import { preview } from "./format.js";
import { Pictures } from "./pictures.js";
import { ChatListView } from "./views/chat_list.js";
import { ConversationView } from "./views/conversation.js";
import { GroupView } from "./views/group.js";
import { PeopleView } from "./views/people.js";
import { readSettings } from "./settings.js";
import { SignInView } from "./views/sign_in.js";
import { StatusView } from "./views/status.js";

const ROOM_ADDRESS = /^#\/chats\/(.+)$/;

const session = new Session();
const api = new Api(session);
const connection = new Connection(session);
const settings = await readSettings();
const pictures = new Pictures(settings.loadRemoteImages);
const signInPage = document.getElementById("sign-in");
const chatsPage = document.getElementById("chats");
let chat = null;

const goTo = (roomId) => (location.hash = roomId ? `#/chats/${encodeURIComponent(roomId)}` : "#/");

const status = new StatusView(connection, pictures, {
  onSignOut: () => {
    const unsent = chat.outbox.size;
    if (unsent > 0 && !confirm(`${unsent} message(s) have not been sent. Sign out and drop them?`)) return;
    chat.outbox.clear();
    session.signOut();
  },
});
const list = new ChatListView(pictures, { onOpen: goTo, onMore: () => chat.loadMoreChats() });
const group = new GroupView(api, pictures);
const conversation = new ConversationView(api, pictures, {
  onBack: () => goTo(null),
  onMembers: (room, name) => group.open(room, name, session.user),
});
const people = new PeopleView(api, pictures, {
  startChat: (person, bookingId) => chat.startChat(person, bookingId),
  startGroup: (name, userIds) => chat.startGroup(name, userIds),
  onOpen: goTo,
});
const signIn = new SignInView(session, { registration: settings.registration, onDone: enter });

function start() {
  chat = new Chat(session.user, api, connection);
  signInPage.hidden = true;
  chatsPage.hidden = false;
  status.begin(session.user);
  conversation.begin(chat);
  chat.store.addEventListener("change", render);
  chat.addEventListener("heard", ({ detail }) => {
    announce(`${detail.senderName}: ${preview(detail.content, detail.type)}`);
  });
  chat.addEventListener("lost", ({ detail }) => {
    if (detail !== chat.store.openRoomId) return;
    group.close();
    goTo(null);
  });
  connection.open();
  showRoomOfAddress();
  render();
}

function enter() {
  start();
  list.focus();
}

function stop() {
  people.close();
  group.close();
  chat?.close();
  chat = null;
  connection.close();
  chatsPage.hidden = true;
  signInPage.hidden = false;
  document.title = "Madang";
  history.replaceState(null, "", "#/");
  signIn.begin();
}

function render() {
  if (!chat) return;
  const { store } = chat;
  chatsPage.classList.toggle("in-room", store.openRoomId !== null);
  list.render(store);
  conversation.render();
  document.title = store.unreadInAll > 0 ? `(${store.unreadInAll}) Madang` : "Madang";
}

function showRoomOfAddress() {
  if (!chat) return;
  const roomId = ROOM_ADDRESS.exec(location.hash)?.[1];
  if (!roomId) {
    const left = chat.store.openRoomId;
    chat.closeRoom();
    render();
    if (left) list.focus(left);
  } else if (decodeURIComponent(roomId) !== chat.store.openRoomId) {
    chat.typing.stop();
    chat.openRoom(decodeURIComponent(roomId));
  }
}

window.addEventListener("hashchange", showRoomOfAddress);
session.addEventListener("ended", stop);
if (session.user) start();
else signIn.begin();
